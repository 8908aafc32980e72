"""Are images enough to find what they have in common?  (Jaderberg et al. 2015, appendix A.2, table 5.)

    vision-jax sweep experiments/spatial_transformers/colocalization --data idx:../shared/data/mnist

Each digit alone (T) and among 16 parts of other digits (TC), 100 images of it. Measured: result.md.
"""

from __future__ import annotations

from vision_jax.recipes import colocalizer, recipe_with
from vision_jax.sweeps import PaperFigures, grid

experiment = recipe_with(colocalizer)

SWEEP = grid(distractors=[0, 16], digit=list("0123456789"))

METRICS = ("recall50",)

PAPER = [
    PaperFigures("Jaderberg et al. 2015, table 5", {"distractors": 0, "digit": digit}, {"recall50": 1.0})
    for digit in "0123456789"
]
