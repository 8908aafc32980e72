"""Do spatial transformers learn to straighten digits?  (Jaderberg et al. 2015, section 4.1, table 1 left.)

    vision-jax train experiments/spatial_transformer_mnist.py --data idx:../shared/data/mnist --distortion RTS
    vision-jax sweep experiments/spatial_transformer_mnist.py --data idx:../shared/data/mnist --workers 2
    vision-jax train experiments/spatial_transformer_mnist.py            # scikit-learn's 1,797 small digits

Digits turned (R), turned, scaled and moved (RTS), seen from the side (P) or bent (E): drawn anew whenever one
is trained on, and one fixed outcome of each digit that is judged. Two networks, fully connected (FCN) and
convolutional (CNN), as they are and behind a transformer whose localisation network is of the same kind
(ST-FCN and ST-CNN), trained alike. The paper's networks had 60,000 digits and 150,000 steps. Measured:
experiments/results/spatial_transformer_mnist.md; two and a half hours on 2 CPU cores that did other work too.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.data.digits.distortions import DISTORTIONS, DistortionName
from vision_jax.models.spatial_transformers.spatial_transformer import TRANSFORMS, TransformName
from vision_jax.models.spatial_transformers.transformed_classifier import NetworkName, digit_classifier
from vision_jax.sweeps import Claim, PaperFigures, grid
from vision_jax.tasks import classification
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
        data: `idx:FOLDER` (MNIST's format), `digits`, or whatever else holds labelled images.
        seed: of the initial parameters, the order of the data and every draw.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda classes: digit_classifier(
            len(classes), network, None if transformer == "none" else TRANSFORMS[transformer]
        ),
        task=classification(data, distortion=DISTORTIONS[distortion]),
        stages=(Gradient(train),),
        seed=seed,
    )


_DATA = ("R", "RTS", "P", "E")

_KINDS = ("none", "affine", "projective", "tps")

SWEEP = (
    grid(network=["fcn", "cnn"], transformer=_KINDS, distortion=_DATA, seed=[0])
    # Where the paper's gap is a point or more, there are five seeds.
    + grid(network=["fcn"], transformer=_KINDS, distortion=["RTS", "P"], seed=[1, 2, 3, 4])
    + grid(network=["fcn"], transformer=["none", "tps"], distortion=["R"], seed=[1, 2, 3, 4])
)

METRICS = ("accuracy",)
COLUMNS = "distortion"

_ERRORS = {  # per cent, on R, RTS, P and E
    ("fcn", "none"): (2.1, 5.2, 3.1, 3.2),
    ("cnn", "none"): (1.2, 0.8, 1.5, 1.4),
    ("fcn", "affine"): (1.2, 0.8, 1.5, 2.7),
    ("fcn", "projective"): (1.3, 0.9, 1.4, 2.6),
    ("fcn", "tps"): (1.1, 0.8, 1.4, 2.4),
    ("cnn", "affine"): (0.7, 0.5, 0.8, 1.2),
    ("cnn", "projective"): (0.8, 0.6, 0.8, 1.3),
    ("cnn", "tps"): (0.7, 0.5, 0.8, 1.1),
}
PAPER = [
    PaperFigures(
        "Jaderberg et al. 2015, table 1",
        {"network": network, "transformer": transform, "distortion": distortion},
        {"accuracy": round(1 - error / 100, 4)},
    )
    for (network, transform), errors in _ERRORS.items()
    for distortion, error in zip(_DATA, errors, strict=True)
]

CLAIMS = [
    Claim(
        f"a spatial transformer helps the {network.upper()}",
        "accuracy",
        {"transformer": "none"},
        {"transformer": transform},
        {"network": network, "distortion": distortion},
    )
    for network, transform in _ERRORS
    if transform != "none"
    for distortion in _DATA
]
