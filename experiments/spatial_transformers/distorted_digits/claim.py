"""Do spatial transformers learn to straighten digits?  (Jaderberg et al. 2015, section 4.1, table 1 left.)

    vision-jax sweep experiments/spatial_transformers/distorted_digits --data idx:../shared/data/mnist

Every arm is trained alike, for 3,000 steps on 8,000 digits; the paper's networks had 60,000 digits and
150,000 steps. Two and a half hours on 2 CPU cores that did other work too. Measured: result.md.
"""

from __future__ import annotations

from vision_jax.recipes import recipe_with, spatial_transformer_classifier
from vision_jax.sweeps import Claim, PaperFigures, grid

experiment = recipe_with(spatial_transformer_classifier)

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
