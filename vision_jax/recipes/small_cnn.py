"""A small convolutional network on handwritten digits.

    vision-jax train small_cnn --data idx:FOLDER     # MNIST's four files
    vision-jax train small_cnn                       # the 1,797 8x8 digits of scikit-learn

Three stages of two convolutions with batch norm, then global average pooling (73 thousand parameters).
About two minutes on 2 CPU cores for MNIST.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.transforms.augment import Augment
from vision_jax.models.classification.small_cnn import SmallCNN
from vision_jax.tasks import ClassificationTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Filled, Seed, check_options


def experiment(
    data: str = "digits",
    canvas: tuple[Count, Count] | None = None,
    widths: Filled[Count] = (16, 32, 64),
    norm: Literal["batch", "group"] = "batch",
    augment: Augment = Augment(hflip=0, scale=(0.9, 1.1)),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=400,
        batch_size=128,
        optimizer="adamw",
        learning_rate=3e-3,
        weight_decay=1e-2,
        warmup_steps=50,
        eval_every=100,
    ),
) -> Experiment:
    """Trains a small convolutional classifier.

    Args:
        data: `digits`, `idx:FOLDER` (MNIST's format) or `folder:FOLDER` (a folder of images for each class).
        canvas: long and short side in pixels; from the data if None.
        widths: channels of each stage; one stage more halves the resolution once more.
        norm: after every convolution: `batch` (over all devices) or `group`.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda spec: SmallCNN(num_classes=len(spec.classes), widths=widths, norm=norm),
        task=ClassificationTask(data, canvas, augment),
        stages=(Gradient(train),),
        seed=seed,
    )
