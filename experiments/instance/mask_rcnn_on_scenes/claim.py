"""How good does Mask R-CNN get in some minutes on a CPU, from random numbers?

    vision-jax sweep experiments/instance/mask_rcnn_on_scenes

The recipe's defaults, on synthetic scenes; 8 minutes a seed on 2 CPU cores. Measured, and beside torchvision
at equal time: result.md.
"""

from __future__ import annotations

from vision_jax.recipes import mask_rcnn, recipe_with
from vision_jax.sweeps import grid

experiment = recipe_with(mask_rcnn)

SWEEP = grid(seed=range(3))

METRICS = ("mask/AP50", "AP50", "mask/AP", "AP")
