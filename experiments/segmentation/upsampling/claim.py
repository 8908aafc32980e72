"""How should a decoder upsample?  (SegNet: Badrinarayanan, Kendall and Cipolla 2017, table 1.)

    vision-jax sweep experiments/segmentation/upsampling --data labels:FOLDER

The paper's variants of SegNet-Basic, which share its encoder, and beside them SegNet-Basic with other
upsamplers instead of max unpooling. The paper trains 64 channels with 7x7 kernels on CamVid at 480x360,
median-frequency balanced, until the loss converges; here channels, kernels, size and steps are fewer.
Measured: result.md.

A function of its own: the recipe `segmenter` has no option for the paper's variants.
"""

from __future__ import annotations

from vision_jax.data.transforms.augment import Augment
from vision_jax.layers.upsampling import Upsampling
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.models.segmentation.segnet import BasicVariant, segnet_basic
from vision_jax.sweeps import Claim, PaperFigures, grid
from vision_jax.tasks import SegmentationTask
from vision_jax.tasks.segmentation import Balance
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, NotNegative, Seed, SegmentationSpec, check_options


def experiment(
    variant: BasicVariant = "segnet_basic",
    upsampling: Upsampling = "max_unpooling",
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    width: Count = 32,
    size: Count = 5,
    balance: Balance = "median_frequency",
    class_weights: tuple[NotNegative, ...] | None = None,
    augment: Augment = Augment(scale=(1.0, 1.5)),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=500, batch_size=8, optimizer="sgd", learning_rate=0.1, weight_decay=5e-4, warmup_steps=50
    ),
) -> Experiment:
    """Trains one variant; evaluated near boundaries too.

    Args:
        variant: of the paper's table.
        upsampling: instead of max unpooling.
        data: `labels:FOLDER` of images and label PNGs, or `synthetic`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        width: channels of every stage; 64 in the paper.
        size: of the kernels, in pixels; 7 in the paper.
        balance: of the classes in the loss.
        class_weights: in place of those; from the data's training labels if None.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    task = SegmentationTask(data, canvas, augment, balance, class_weights, boundaries=True)

    def model(spec: SegmentationSpec) -> Segmenter:
        return Segmenter(
            segnet_basic(len(spec.classes), variant, width, size, upsampling), spec.class_weights
        )

    return Experiment(model=model, task=task, stages=(Gradient(train),), seed=seed)


_TABLE = {  # mIoU and boundary F1 on CamVid's test images, per cent
    "bilinear": (43.3, 20.8),
    "segnet_basic": (47.7, 35.8),
    "encoder_addition": (48.5, 35.9),
    "single_channel_decoder": (46.1, 31.6),
    "fcn_basic": (47.3, 38.1),
    "fcn_basic_no_addition": (44.1, 32.0),
    "fcn_basic_no_dim_reduction": (50.1, 37.4),
    "fcn_basic_no_addition_no_dim_reduction": (45.9, 30.5),
}

SWEEP = (
    grid(variant=_TABLE, upsampling=["max_unpooling"], seed=[0])
    + grid(
        variant=["segnet_basic"],
        upsampling=["nearest", "bed_of_nails", "bilinear", "transposed"],
        seed=[0],
    )
    # The arms that claims rest on have three seeds.
    + grid(
        variant=["bilinear", "segnet_basic", "fcn_basic", "fcn_basic_no_addition"],
        upsampling=["max_unpooling"],
        seed=[1, 2],
    )
    + grid(variant=["segnet_basic"], upsampling=["bed_of_nails"], seed=[1, 2])
)

METRICS = ("mIoU", "boundary_F1", "pixel_accuracy")

PAPER = [
    PaperFigures(
        "Badrinarayanan et al. 2017, table 1",
        {"variant": name, "upsampling": "max_unpooling"},
        {"mIoU": round(iou / 100, 4), "boundary_F1": round(boundary / 100, 4)},
    )
    for name, (iou, boundary) in _TABLE.items()
]

CLAIMS = [
    Claim(text, metric, worse, better, where)
    for text, worse, better, where in (
        (
            "a learned decoder beats interpolated scores",
            {"variant": "bilinear"},
            {"variant": "segnet_basic"},
            {"upsampling": "max_unpooling"},
        ),
        (
            "FCN's skips help",
            {"variant": "fcn_basic_no_addition"},
            {"variant": "fcn_basic"},
            {"upsampling": "max_unpooling"},
        ),
        (
            "remembered locations beat bed of nails",
            {"upsampling": "bed_of_nails"},
            {"upsampling": "max_unpooling"},
            {"variant": "segnet_basic"},
        ),
    )
    for metric in ("mIoU", "boundary_F1")
]
