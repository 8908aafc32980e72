"""What mask targets lose: the AP of the truth itself, in 28x28 cells from crops or from bitmaps.

    python experiments/instance/mask_targets/study.py
    python experiments/instance/mask_targets/study.py --data coco:FOLDER --canvas 512 384

Mask R-CNN learns from masks of 28x28 cells, cut from what the batch holds: crops of the objects' boxes
(`--masks crops`, 112x112 whatever the canvas), or bitmaps of the whole canvas (`--masks full`). A model
that overfits its targets would predict exactly these cells, so the AP of the targets bounds its own,
and the difference of the two is what crops cost. No model is trained; nothing is random. Measured: result.md.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import numpy as np

from vision_jax.cli.scripts import run_script
from vision_jax.ops import crop_masks
from vision_jax.tasks import InstanceTask
from vision_jax.types import Count, InstanceBatch, Instances, check_options

METRICS = ("mask/AP", "mask/AP50", "mask/AP75", "boundary/AP")


def perfect(batch: InstanceBatch, cells: int) -> Instances:
    """The truth as a model would predict it: its boxes, and its masks in cells."""
    indices = np.arange(batch.boxes.shape[1])
    cut = partial(crop_masks, size=cells)
    masks = jax.vmap(lambda masks, frames, boxes: cut(masks, frames, indices, boxes))(
        batch.masks, batch.frames, batch.boxes
    )
    valid = np.asarray(batch.valid & ~batch.ignore)
    return Instances(
        boxes=np.asarray(batch.boxes),  # pyright: ignore[reportArgumentType]
        scores=np.where(valid, np.float32(1), 0),  # pyright: ignore[reportArgumentType]
        labels=np.where(valid, batch.labels, -1),  # pyright: ignore[reportArgumentType]
        valid=valid,  # pyright: ignore[reportArgumentType]
        masks=np.asarray(masks),  # pyright: ignore[reportArgumentType]
    )


def evaluated(data: str, canvas: tuple[int, int], masks: Literal["crops", "full"], cells: int) -> list[float]:
    """The metrics of the truth in cells, over the evaluation images."""
    opened = InstanceTask(data, canvas, masks=masks).open(None)
    evaluators = opened.evaluators()
    for batch in opened.once("val", 4):
        for evaluator in evaluators:
            evaluator.add(batch, perfect(batch, cells))
    metrics = {name: value for each in evaluators for name, value in each.report().metrics.items()}
    return [metrics[name] for name in METRICS]


def main(data: str = "synthetic", canvas: tuple[Count, Count] = (256, 256), cells: Count = 28) -> None:
    """Prints a table.

    Args:
        data: as `--data` of the recipe mask_rcnn.
        canvas: long and short side in pixels.
        cells: rows and columns of a target.
    """
    check_options(main, locals())
    crops, full = (evaluated(data, canvas, kind, cells) for kind in ("crops", "full"))
    print(f"| targets from | {' | '.join(METRICS)} |\n| --- |{' ---: |' * len(METRICS)}")
    rows = (("crops", crops), ("bitmaps", full), ("difference", np.subtract(crops, full)))
    for name, values in rows:
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |")


if __name__ == "__main__":
    run_script(main)
