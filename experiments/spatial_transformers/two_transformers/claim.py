"""Do two transformers learn to look at one digit each?  (Jaderberg et al. 2015, appendix A.1.)

    vision-jax sweep experiments/spatial_transformers/two_transformers --data idx:../shared/data/mnist

Measured: result.md.
"""

from __future__ import annotations

from vision_jax.recipes import digit_addition, recipe_with
from vision_jax.sweeps import Claim, PaperFigures, zip_

experiment = recipe_with(digit_addition)

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
