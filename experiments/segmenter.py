"""A plain fully convolutional segmenter: stride 8 down, bilinear up, no skips.

    vision-jax train experiments/segmenter.py --data labels:FOLDER   # images and label PNGs
    vision-jax train experiments/segmenter.py                        # synthetic scenes

On CamVid's 11 classes (240x180, 367 training images): mIoU 0.38 and pixel accuracy 0.82 on the 101 validation
images (seed 0), where the commonest class everywhere reaches 0.03 and 0.30. About 5 minutes on 2 CPU cores.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.transforms import Augment
from vision_jax.models.segmentation.plain_fcn import PlainFCN
from vision_jax.tasks import segmentation
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig


def experiment(
    data: str = "synthetic",
    canvas: tuple[int, int] | None = None,
    widths: tuple[int, ...] = (32, 64, 128),
    upsampling: Literal["bilinear", "nearest"] = "bilinear",
    augment: Augment = Augment(scale=(0.75, 1.5)),
    seed: int = 0,
    train: TrainConfig = TrainConfig(
        steps=400, batch_size=8, optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2, warmup_steps=50
    ),
) -> Experiment:
    """Trains a plain fully convolutional network.

    Args:
        data: `synthetic`, or `labels:FOLDER` of images and label PNGs.
        canvas: long and short side in pixels, multiples of 8; from the data if None.
        widths: channels at strides 2, 4 and 8.
        upsampling: how maps double their sides on the way back up.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and every draw.
        train: how long and how to train.
    """
    return Experiment(
        model=lambda classes: PlainFCN(num_classes=len(classes), widths=widths, upsampling=upsampling),
        task=segmentation(data, canvas, augment),
        stages=(Gradient(train),),
        seed=seed,
    )
