"""Do two transformers learn to look at one digit each?  (Jaderberg et al. 2015, A.1, MNIST addition.)

    vision-jax train experiments/spatial_transformer_addition.py --data idx:../shared/data/mnist
    vision-jax sweep experiments/spatial_transformer_addition.py --data idx:../shared/data/mnist

Two digits, one in each channel, each turned, scaled and moved by itself (RTS): what is their sum? One
transformer must move both channels alike; two beside each other may each straighten one. The paper's errors:
FCN 47.7 per cent, CNN 14.7, ST-FCN 18.5, and with two transformers 5.8.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.digits.distortions import DISTORTIONS, DistortionName
from vision_jax.models.spatial_transformers.spatial_transformer import Affine
from vision_jax.models.spatial_transformers.transformed_classifier import NetworkName, digit_classifier
from vision_jax.sweeps import Claim, PaperFigures, zip_
from vision_jax.tasks import addition
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
        network: fully connected, or convolutional; localisation networks are of the same kind.
        transformers: how many, beside each other.
        distortion: of each digit by itself (`vision_jax.data.digits.distortions`).
        data: `idx:FOLDER` (MNIST's format) or `digits`.
        seed: of the initial parameters, the order of the data and every draw.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda classes: digit_classifier(
            len(classes), network, Affine() if transformers else None, count=transformers, channels=2
        ),
        task=addition(data, DISTORTIONS[distortion]),
        stages=(Gradient(train),),
        seed=seed,
    )


SWEEP = zip_(network=["fcn", "cnn", "fcn", "fcn"], transformers=[0, 0, 1, 2])

METRICS = ("accuracy",)

PAPER = [
    PaperFigures(
        "Jaderberg et al. 2015, A.1",
        {"network": network, "transformers": transformers},
        {"accuracy": accuracy},
    )
    for network, transformers, accuracy in (
        ("fcn", 0, 0.523),
        ("cnn", 0, 0.853),
        ("fcn", 1, 0.815),
        ("fcn", 2, 0.942),
    )
]

CLAIMS = [
    Claim(
        "two transformers add better than one",
        "accuracy",
        {"transformers": 1},
        {"transformers": 2},
        {"network": "fcn"},
    ),
    Claim(
        "one transformer adds better than none",
        "accuracy",
        {"transformers": 0},
        {"transformers": 1},
        {"network": "fcn"},
    ),
]
