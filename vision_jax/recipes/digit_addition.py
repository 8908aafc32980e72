"""Adding two digits behind spatial transformers (Jaderberg et al. 2015, appendix A.1, MNIST addition).

    vision-jax train digit_addition --data idx:FOLDER --transformers 1    # MNIST's four files
    vision-jax train digit_addition                                       # scikit-learn's 1,797 small digits

Two digits, one in each channel, each rotated, scaled and translated by itself (RTS): what is their sum? One
transformer must warp both channels alike; two in parallel may each straighten one.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.digits.distortions import DISTORTIONS, DistortionName
from vision_jax.models.spatial_transformers.spatial_transformer import Affine
from vision_jax.models.spatial_transformers.transformed_classifier import NetworkName, digit_classifier
from vision_jax.tasks import AdditionTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Seed, check_options


def experiment(
    network: NetworkName = "fcn",
    transformers: Literal[0, 1, 2] = 2,
    distortion: DistortionName = "RTS",
    data: str = "digits",
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=4000,
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=100,
        log_every=100,
    ),
) -> Experiment:
    """Trains one network that adds.

    Args:
        network: fully connected, or convolutional; localization networks are of the same kind.
        transformers: how many, in parallel.
        distortion: of each digit by itself (`vision_jax.data.digits.distortions`).
        data: `idx:FOLDER` (MNIST's format) or `digits`.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda spec: digit_classifier(
            len(spec.classes), network, Affine() if transformers else None, count=transformers, channels=2
        ),
        task=AdditionTask(data, DISTORTIONS[distortion]),
        stages=(Gradient(train),),
        seed=seed,
    )
