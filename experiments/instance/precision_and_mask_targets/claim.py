"""What do bfloat16, and mask targets from crops, cost Mask R-CNN?

    vision-jax sweep experiments/instance/precision_and_mask_targets --workers 2

Training with arithmetic in bfloat16 against float32, and targets from crops of the objects' boxes against
targets from bitmaps of the whole canvas; on small scenes, with narrow heads. Half an hour on 2 CPU cores, two
trials at a time. Measured: result.md.
"""

from __future__ import annotations

from vision_jax.recipes import mask_rcnn, recipe_with
from vision_jax.sweeps import Claim, grid
from vision_jax.training.experiment import TrainConfig

experiment = recipe_with(
    mask_rcnn,
    canvas=(128, 128),
    anchor_sizes=(8, 16, 32, 64, 128),
    rois_per_image=32,
    fpn_features=64,
    mask_features=64,
    head_features=256,
    train=TrainConfig(
        steps=500,
        batch_size=2,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=60,
        log_every=50,
    ),
)

SWEEP = grid({"train.precision": ["float32", "bfloat16"]}, masks=["crops"], seed=range(3)) + grid(
    {"train.precision": ["float32"]}, masks=["full"], seed=range(3)
)

METRICS = ("mask/AP", "AP", "mask/AP50", "mask/AP75", "AP50")

_FLOAT32 = {"train.precision": "float32"}
CLAIMS = [
    claim
    for metric in ("mask/AP", "AP")
    for claim in (
        Claim("bfloat16 costs AP", metric, {"train.precision": "bfloat16"}, _FLOAT32, {"masks": "crops"}),
        Claim("crops cost AP", metric, {"masks": "crops"}, {"masks": "full"}, _FLOAT32),
    )
]
