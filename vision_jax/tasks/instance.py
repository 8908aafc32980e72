"""Instance segmentation: a mask for each object, evaluated by the average precision of masks and of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, UInt8

from vision_jax.data.codecs.masks import encode_runs, pack_runs
from vision_jax.data.examples import InstanceExample
from vision_jax.data.open import open_instances
from vision_jax.data.pipeline.batching import instance_batch
from vision_jax.data.pipeline.reading import read_instances
from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import InstanceSource
from vision_jax.data.transforms.augment import Augment
from vision_jax.evaluation import CocoInstanceEvaluator
from vision_jax.ops.masks import paste_mask
from vision_jax.tasks.canvas import Sides
from vision_jax.tasks.objects import Kind, objects_task, result, sizes, unannotated
from vision_jax.training.experiment import Classes, Evaluator, Task
from vision_jax.types import InstanceBatch, Instances, UserError, instances_to_original
from vision_jax.visualization import plot_instance_batch, plot_instances


def instances(
    data: str,
    canvas: Sides | None = None,
    augment: Augment = Augment(),
    masks: Literal["crops", "full"] = "crops",
    mask_size: int = 112,
) -> Task:
    """Joins a data set with instance masks, its evaluator and its plots.

    Args:
        data: `synthetic`, `coco:FOLDER` or another of those that `vision_jax.data.open` lists.
        canvas: as for `detection`.
        augment: how training images are varied.
        masks: what a batch holds of each object: a crop to its box, or a bitmap of the canvas, which takes
            height * width / mask_size^2 times the memory.
        mask_size: cells along each side of a crop; 112 is four times the 28 of the usual mask heads.

    Returns:
        The task, which evaluates at the size of the original images; data are opened when first needed.

    Raises:
        UserError: impossible sides or size of masks.
    """
    if mask_size < 1:
        raise UserError(f"mask_size is {mask_size}: give 1 or more")
    size = mask_size if masks == "crops" else None
    kind = Kind(
        open=partial(open_instances, data),
        read=partial(read_instances, size=size),
        collate=instance_batch,
        unannotated=partial(_unannotated, size=mask_size),
        extra_bytes=lambda source, most: most * (_median_area(source) if size is None else size**2),
        evaluators=_evaluators,
        plot_batch=plot_instance_batch,
        plot_predictions=plot_instances,
        to_json=_to_json,
        metric="mask/AP",
    )
    return objects_task(kind, canvas, augment)


def _median_area(source: InstanceSource) -> int:
    """Of the images, in pixels; 0 where there are none."""
    return int(np.median(sizes(source).prod(1))) if len(source) else 0


def _unannotated(id: int, image: UInt8[np.ndarray, "h w 3"], size: int) -> InstanceExample:
    """An example of an RGB image without objects, whose masks would have `size` cells along each side."""
    example = unannotated(id, image)
    return InstanceExample(
        **vars(example), masks=np.zeros((0, size, size), np.uint8), frames=np.zeros((0, 4), np.float32)
    )


class _First:
    """The first images of a source."""

    def __init__(self, source: InstanceSource, count: int):
        self._source = source
        self._count = min(count, len(source))
        self.classes = source.classes
        segmentations = getattr(source, "segmentations", None)
        if segmentations is not None:
            self.segmentations = segmentations

    def __len__(self) -> int:
        return self._count

    def record(self, index: int) -> DetectionRecord:
        """The annotations of an image."""
        return self._source.record(index)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB."""
        return self._source.image(index)

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """The masks of an image's objects, in the order of its record."""
        return self._source.masks(index)


def _evaluators(source: InstanceSource, first: int | None) -> Sequence[Evaluator]:
    """Fresh evaluators of a split, or of its `first` images."""
    part = source if first is None else _First(source, first)
    return [CocoInstanceEvaluator(part, source.classes, getattr(source, "category_ids", None))]


def _to_json(batch: InstanceBatch, instances: Instances, classes: Classes) -> list[Any]:
    """For each valid image its objects in the format of COCO's results, with masks at the original size."""
    present = np.flatnonzero(np.asarray(batch.example_valid))
    results = []
    for b, found in zip(present, instances_to_original(batch, instances), strict=True):
        height, width = np.asarray(batch.original_size[b]).tolist()
        results.append(
            [
                {
                    **result(found.id, box, float(score), int(label), classes),
                    "segmentation": {
                        "size": [height, width],
                        "counts": pack_runs(encode_runs(paste_mask(mask, box, (height, width)))),
                    },
                }
                for box, score, label, mask in zip(*found[1:], strict=True)
            ]
        )
    return results
