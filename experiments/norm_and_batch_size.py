"""Does group norm not mind small batches, where batch norm does?  (Wu and He 2018, figure 1.)

    vision-jax sweep experiments/norm_and_batch_size.py

The paper's ResNet-50 on ImageNet: with 32, 8 and 2 images a GPU, errors of 23.6, 24.8 and 34.7 % with batch
norm, 24.1, 24.0 and 24.1 % with group norm. Here a small network on scikit-learn's digits, the same 12,800
images seen in every arm, the learning rate in proportion to the batch. Measured: all arms within noise of 97
% (`results/norm_and_batch_size.md`).
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.transforms.augment import Augment
from vision_jax.models.classification.small_cnn import SmallCNN
from vision_jax.sweeps import Claim, PaperFigures, cross, grid, zip_
from vision_jax.tasks import classification
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Filled, Seed, check_options


def experiment(
    norm: Literal["batch", "group"] = "batch",
    data: str = "digits",
    widths: Filled[Count] = (16, 32, 64),
    augment: Augment = Augment(hflip=0, scale=(0.9, 1.1)),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=400, batch_size=32, learning_rate=0.05, reference_batch=32, warmup_steps=40, weight_decay=1e-4
    ),
) -> Experiment:
    """Trains a small convolutional classifier.

    Args:
        norm: after every convolution.
        data: `digits`, `idx:FOLDER` (MNIST's format) or `folder:FOLDER` (a folder of images for each class).
        widths: channels of each stage.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and every draw.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda classes: SmallCNN(num_classes=len(classes), widths=widths, norm=norm),
        task=classification(data, None, augment),
        stages=(Gradient(train),),
        seed=seed,
    )


SWEEP = cross(
    grid(norm=["batch", "group"]),
    zip_(
        {
            "train.batch_size": [32, 8, 2],
            "train.steps": [400, 1600, 6400],
            "train.warmup_steps": [40, 160, 640],
        }
    ),
    grid(seed=range(5)),
)

METRICS = ("accuracy",)

_SOURCE = "Wu and He 2018, figure 1"
PAPER = [
    PaperFigures(_SOURCE, {"norm": norm, "train.batch_size": batch}, {"accuracy": 1 - error})
    for norm, errors in (("batch", (0.236, 0.248, 0.347)), ("group", (0.241, 0.240, 0.241)))
    for batch, error in zip((32, 8, 2), errors, strict=True)
]

CLAIMS = [
    Claim(
        "with 2 images a batch, group norm is the more accurate",
        "accuracy",
        worse={"norm": "batch"},
        better={"norm": "group"},
        where={"train.batch_size": 2},
    ),
    Claim(
        "with 32, batch norm is the more accurate",
        "accuracy",
        worse={"norm": "group"},
        better={"norm": "batch"},
        where={"train.batch_size": 32},
    ),
]
