"""How good does U-Net get on CamVid, from random numbers?  (Ronneberger, Fischer and Brox 2015.)

    vision-jax sweep experiments/segmentation/unet_on_camvid --workers 2

367 training images, 240x180, 1,500 steps; 27 minutes a seed on 2 CPU cores. Measured: result.md.
"""

from __future__ import annotations

from vision_jax.data.transforms.augment import Augment
from vision_jax.recipes import recipe_with, segmenter
from vision_jax.sweeps import grid
from vision_jax.training.experiment import TrainConfig

experiment = recipe_with(
    segmenter,
    data="labels:../shared/data/camvid",
    canvas=(240, 180),
    balance="mild",
    augment=Augment(scale=(0.9, 1.6), color=0.3),
    train=TrainConfig(
        steps=1500, batch_size=8, optimizer="adamw", learning_rate=2e-3, weight_decay=1e-2, warmup_steps=50
    ),
)

SWEEP = grid(seed=range(3))

METRICS = ("mIoU", "pixel_accuracy")
