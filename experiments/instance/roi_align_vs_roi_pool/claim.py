r"""Does RoIAlign beat RoIPool, at stride 16 and at 32?  (He et al. 2017, table 2c and d.)

    vision-jax sweep experiments/instance/roi_align_vs_roi_pool --workers 2
    vision-jax sweep experiments/instance/roi_align_vs_roi_pool --no-masks --data voc:../shared/data/bccd \
        --canvas 256 192 --train.steps 300 --out runs/roi_bccd

One feature map of stride 16 (C4) or 32 (C5), and three ways to pool a region from it; the paper's figures are
ResNet-50's on COCO. Here ResNet-18 from random numbers and two linear layers as the head, on synthetic scenes
with objects of 12 to 96 pixels. Measured: result.md.

The paper's head at stride 16 is the backbone's last stage (`--c4-head residual`): in the minutes at hand it
learns from too few regions to tell anything. On COCO and 8 GPUs, one trial after the other on all of them:
`--data coco:FOLDER --backbone resnet50 --norm frozen --c4-head residual --canvas 1333 800 --rois-per-image
512 --train.batch-size 16 --train.steps 90000 --train.optimizer sgd --train.learning-rate 0.02`.

A function of its own: at stride 16 the recipe `mask_rcnn` has the paper's head only; and one option,
`--no-masks`, makes the same detector without masks.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from vision_jax.backbones import ResNetName, resnet
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers.norms import NormKind
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead, SingleLevel, residual_head
from vision_jax.models.instance import FCNMaskHead, MaskRCNN
from vision_jax.sweeps import Claim, PaperFigures, grid
from vision_jax.tasks import DetectionTask, InstanceTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Filled, Positive, Seed, check_options


def experiment(
    roi: Literal["pool", "align_max", "align"] = "align",
    stride: Literal[16, 32] = 16,
    masks: bool = True,
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = (192, 192),
    backbone: ResNetName = "resnet18",
    norm: NormKind = "group",
    c4_head: Literal["mlp", "residual"] = "mlp",
    head_features: Count = 512,
    mask_features: Count = 128,
    anchor_sizes: Filled[Positive] = (16, 32, 64, 128),
    rois_per_image: Count = 64,
    augment: Augment = Augment(),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=700,
        batch_size=2,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=60,
    ),
) -> Experiment:
    """Trains one detector on one feature map.

    Args:
        roi: RoIPool, or RoIAlign by the maximum of its samples or their average.
        stride: of the feature map: stage 4's with stage 5 as the head, or stage 5's.
        masks: Mask R-CNN, or Faster R-CNN for data without masks.
        data: `synthetic`, `coco:FOLDER` or `voc:FOLDER`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        backbone: which ResNet.
        norm: of the backbone: `group`, `batch` or `frozen`.
        c4_head: at stride 16, two linear layers, or the backbone's last stage for boxes and masks alike.
        head_features: hidden units of the linear layers.
        mask_features: channels of the mask head.
        anchor_sizes: side of a square anchor in canvas pixels, all of them at every location.
        rois_per_image: proposals an image that the heads learn from.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    c4, residual = stride == 16, stride == 16 and c4_head == "residual"
    detector = partial(
        MaskRCNN if masks else FasterRCNN,
        backbone=resnet(backbone, norm, stages=3 if c4 else 4),
        neck=SingleLevel("c4" if c4 else "c5"),
        rpn=RPN((anchor_sizes,)),
        head=residual_head(backbone, norm) if residual else MLPHead(head_features),
        roi=roi,
        pooled_size=14 if residual else 7,
        train_proposals=(1000, 500),
        test_proposals=(1000, 100),
        rois_per_image=rois_per_image,
    )
    if masks:
        mask_head = FCNMaskHead(0 if residual else 2, mask_features)
        detector = partial(detector, mask_head=mask_head, mask_after_head=residual)
    return Experiment(
        model=lambda spec: detector(num_classes=len(spec.classes)),
        task=InstanceTask(data, canvas, augment) if masks else DetectionTask(data, canvas, augment),
        stages=(Gradient(train),),
        seed=seed,
    )


SWEEP = grid(stride=[16, 32], roi=["pool", "align_max", "align"], seed=range(3))

METRICS = ("mask/AP", "mask/AP75", "mask/AP50", "AP", "AP75")

_C4, _C5 = "He et al. 2017, table 2c", "He et al. 2017, table 2d"
PAPER = [
    PaperFigures(
        source, {"stride": stride, "roi": roi}, {"mask/AP": ap, "mask/AP50": ap50, "mask/AP75": ap75, **boxes}
    )
    for source, stride, roi, ap, ap50, ap75, boxes in (
        (_C4, 16, "pool", 0.269, 0.488, 0.264, {}),
        (_C4, 16, "align_max", 0.302, 0.510, 0.318, {}),
        (_C4, 16, "align", 0.303, 0.512, 0.315, {}),
        (_C5, 32, "pool", 0.236, 0.465, 0.216, {"AP": 0.282, "AP75": 0.269}),
        (_C5, 32, "align", 0.309, 0.518, 0.321, {"AP": 0.340, "AP75": 0.364}),
    )
]

CLAIMS = [
    Claim(
        "RoIAlign beats RoIPool",
        metric,
        {"roi": "pool"},
        {"roi": "align"},
        {"stride": stride},
    )
    for stride in (16, 32)
    for metric in ("mask/AP", "mask/AP75", "AP")
]
