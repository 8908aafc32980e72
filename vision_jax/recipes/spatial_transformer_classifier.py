"""Classifiers of distorted digits behind spatial transformers (Jaderberg et al. 2015, section 4.1).

    vision-jax train spatial_transformer_classifier --data idx:FOLDER --distortion RTS    # MNIST's four files
    vision-jax train spatial_transformer_classifier                     # scikit-learn's 1,797 small digits

Digits rotated (R), rotated, scaled and translated (RTS), projectively distorted (P) or elastically warped
(E): distorted anew whenever one is trained on, and one fixed outcome of each digit to evaluate on. Two
networks, fully connected (FCN) and convolutional (CNN), as they are or behind a transformer whose
localization network is of the same kind (ST-FCN, ST-CNN).
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.digits.distortions import DISTORTIONS, DistortionName
from vision_jax.models.spatial_transformers.spatial_transformer import TRANSFORMS, TransformName
from vision_jax.models.spatial_transformers.transformed_classifier import NetworkName, digit_classifier
from vision_jax.tasks import ClassificationTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Seed, check_options


def experiment(
    network: NetworkName = "cnn",
    transformer: Literal["none"] | TransformName = "affine",
    distortion: DistortionName = "R",
    data: str = "digits",
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=3000,
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=100,
        log_every=100,
    ),
) -> Experiment:
    """Trains one classifier of distorted digits.

    Args:
        network: fully connected, or convolutional.
        transformer: what a spatial transformer before it may do; `none` has none.
        distortion: of the digits (`vision_jax.data.digits.distortions`).
        data: `idx:FOLDER` (MNIST's format), `digits`, or whatever else holds labeled images.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda spec: digit_classifier(
            len(spec.classes), network, None if transformer == "none" else TRANSFORMS[transformer]
        ),
        task=ClassificationTask(data, distortion=DISTORTIONS[distortion]),
        stages=(Gradient(train),),
        seed=seed,
    )
