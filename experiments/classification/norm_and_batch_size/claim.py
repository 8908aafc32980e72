"""Does group norm not mind small batches, where batch norm does?  (Wu and He 2018, figure 1.)

    vision-jax sweep experiments/classification/norm_and_batch_size --workers 2

The paper trains ResNet-50 on ImageNet. Here a small network learns scikit-learn's digits, the same 12,800
images seen in every arm, the learning rate in proportion to the batch. Measured: result.md.
"""

from __future__ import annotations

from vision_jax.recipes import recipe_with, small_cnn
from vision_jax.sweeps import Claim, PaperFigures, cross, grid, zip_
from vision_jax.training.experiment import TrainConfig

experiment = recipe_with(
    small_cnn,
    train=TrainConfig(
        steps=400, batch_size=32, learning_rate=0.05, reference_batch=32, warmup_steps=40, weight_decay=1e-4
    ),
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
