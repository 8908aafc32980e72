"""How good does Faster R-CNN get on a few hundred images, from random numbers?  (He et al. 2019.)

    vision-jax sweep experiments/detection/faster_rcnn_on_bccd

205 training images of blood cells, 320x240, 1,000 steps; 20 to 30 minutes a seed on 2 CPU cores. Measured,
and beside torchvision: result.md.
"""

from __future__ import annotations

from vision_jax.data.transforms.augment import Augment
from vision_jax.recipes import faster_rcnn, recipe_with
from vision_jax.sweeps import grid
from vision_jax.training.experiment import TrainConfig

experiment = recipe_with(
    faster_rcnn,
    data="voc:../shared/data/bccd",
    canvas=(320, 240),
    augment=Augment(vflip=0.5, scale=(0.8, 1.2)),
    train=TrainConfig(
        steps=1000,
        batch_size=4,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=100,
        eval_every=500,
    ),
)

SWEEP = grid(seed=range(3))

METRICS = ("AP", "AP50", "AP75")
