r"""The literature's segmenters on images with label maps, from random numbers or from torchvision's weights.

    vision-jax train segmenter --data labels:FOLDER   # images and label PNGs
    vision-jax train segmenter --data voc:FOLDER --network fcn_8s --backbone vgg16 \
        --init vgg16.pth --freeze backbone
    vision-jax train segmenter                        # synthetic scenes

Measured: experiments/segmentation/unet_on_camvid.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from vision_jax.backbones import resnet
from vision_jax.backbones.vgg import STAGES, vgg
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers.norms import NormKind
from vision_jax.layers.upsampling import Upsampling
from vision_jax.models.protocols import SegmentationNetwork
from vision_jax.models.segmentation.deconvnet import DeconvNet
from vision_jax.models.segmentation.encoder_decoder import EncoderDecoder
from vision_jax.models.segmentation.fcn import FCN, ConvolvedLayers
from vision_jax.models.segmentation.full_resolution import FullResolution
from vision_jax.models.segmentation.segmenter import Segmenter, Views
from vision_jax.models.segmentation.segnet import segnet, segnet_basic
from vision_jax.models.segmentation.unet import UNet
from vision_jax.pretrained import starting_from
from vision_jax.tasks import SegmentationTask
from vision_jax.tasks.segmentation import Balance
from vision_jax.training.experiment import Evaluation, Experiment, Gradient, TrainConfig
from vision_jax.types import Count, NotNegative, Seed, UserError, check_options

Network = Literal[
    "unet",
    "encoder_decoder",
    "segnet",
    "segnet_basic",
    "fcn_32s",
    "fcn_16s",
    "fcn_8s",
    "deconvnet",
    "full_resolution",
]
Backbone = Literal["vgg16", "resnet18", "resnet50"]

_SKIPS = {"fcn_32s": ("c5",), "fcn_16s": ("c5", "c4"), "fcn_8s": ("c5", "c4", "c3")}


def experiment(
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    network: Network = "unet",
    widths: tuple[Count, ...] = (),
    upsampling: Upsampling | None = None,
    backbone: Backbone | None = None,
    norm: NormKind = "batch",
    balance: Balance = "none",
    class_weights: tuple[NotNegative, ...] | None = None,
    dice: NotNegative = 0.0,
    boundaries: bool = False,
    augment: Augment = Augment(scale=(0.75, 1.5)),
    init: str | None = None,
    freeze: tuple[str, ...] = (),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=400, batch_size=8, optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2, warmup_steps=50
    ),
) -> Experiment:
    """Trains one segmenter.

    Args:
        data: `labels:FOLDER` of images and label PNGs, `voc:FOLDER`, `coco:FOLDER` or `synthetic`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        network: which.
        widths: channels of its stages, from the image down (one number for `segnet_basic` and
            `full_resolution`, five for `segnet`); empty for some that a CPU trains in minutes. FCNs have
            their backbone's.
        upsampling: how the decoder doubles maps' sides; the network's own upsampling if None. FCN and the
            network at full resolution have no other, and U-Net has no max unpooling.
        backbone: of an FCN; ResNet-18 if None.
        norm: after convolutions: `batch` (over all devices), `frozen`, or `group`; VGG-16 has none.
        balance: `median_frequency` weighs each class's pixels so that the classes weigh about the same,
            `mild` by the square root of that.
        class_weights: in place of those, one for each class; from the data's training labels if None.
        dice: weight of the dice loss beside the cross-entropy.
        boundaries: whether to evaluate near boundaries too.
        augment: how training images are varied.
        init: what to start from: a file of torchvision's weights of the backbone, or a run folder.
        freeze: frozen parts, such as `backbone`, or `upsample_image` of an FCN.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    build = _builder(network, widths, upsampling, backbone, norm)
    return Experiment(
        model=lambda spec: Segmenter(build(len(spec.classes)), spec.class_weights, dice),
        task=SegmentationTask(data, canvas, augment, balance, class_weights, boundaries),
        stages=(Gradient(train, freeze=freeze),),
        seed=seed,
        init=starting_from(init),
        evaluations={
            "flip": Evaluation(lambda model: model.clone(views=Views(flip=True))),
            "scales": Evaluation(lambda model: model.clone(views=Views((0.75, 1.0, 1.25), flip=True))),
        },
    )


_FIXED_WIDTHS = {"segnet": 5, "segnet_basic": 1, "full_resolution": 1}


def _builder(
    network: Network,
    widths: tuple[int, ...],
    upsampling: Upsampling | None,
    backbone: Backbone | None,
    norm: NormKind,
) -> Callable[[int], SegmentationNetwork]:
    """The network for so many classes."""
    if backbone is not None and network not in _SKIPS:
        raise UserError(f"--backbone: {network} has an encoder of its own")
    if len(widths) not in (0, _FIXED_WIDTHS.get(network, len(widths))):
        raise UserError(f"--widths: {network} takes {_FIXED_WIDTHS[network]}, not {len(widths)}")
    deep = widths or (32, 64, 128, 256, 256)
    if network == "unet":
        if upsampling == "max_unpooling":
            raise UserError("--upsampling max_unpooling: U-Net does not keep its maxima's locations")
        wide = widths or (48, 96, 192, 256)
        return partial(UNet, widths=wide, upsampling=upsampling or "transposed", stem=2, norm=norm)
    if network == "encoder_decoder":
        wide = widths or (32, 64, 128)
        return partial(EncoderDecoder, widths=wide, upsampling=upsampling or "bilinear", norm=norm)
    if network == "segnet":
        return partial(segnet, widths=deep, upsampling=upsampling or "max_unpooling", norm=norm)
    if network == "segnet_basic":
        width = widths[0] if widths else 64
        return partial(segnet_basic, width=width, upsampling=upsampling or "max_unpooling", norm=norm)
    if network == "deconvnet":
        # A bottleneck that a small canvas holds; as many convolutions as VGG has, where it has such a stage.
        blocks = STAGES["vgg16"][: len(deep)] + (3,) * (len(deep) - 5)
        neck = {"neck": 5, "neck_width": 4 * deep[-1], "upsampling": upsampling or "max_unpooling"}
        return partial(DeconvNet, widths=deep, blocks=blocks, **neck, norm=norm)
    if upsampling is not None:
        raise UserError(f"--upsampling: {network} has its own upsampling")
    if network == "full_resolution":
        return partial(FullResolution, width=widths[0] if widths else 32, norm=norm)
    if widths:
        raise UserError(f"--widths: {network} has those of its backbone")
    if backbone != "vgg16":
        return partial(FCN, backbone=resnet(backbone or "resnet18", norm), skips=_SKIPS[network])
    if norm != "batch":
        raise UserError(f"--norm {norm}: VGG-16 has no norms")
    return partial(FCN, backbone=vgg("vgg16", pooled=True), skips=_SKIPS[network], head=ConvolvedLayers())
