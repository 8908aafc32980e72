"""Instance segmentation: a mask for each object, evaluated by the average precision of masks and of boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.codecs.masks import encode_runs, pack_runs
from vision_jax.data.examples import InstanceExample
from vision_jax.data.open import open_instances
from vision_jax.data.pipeline.batching import instance_batch
from vision_jax.data.pipeline.reading import read_instances
from vision_jax.data.sources import InstanceSource
from vision_jax.data.transforms.augment import Augment
from vision_jax.evaluation import CocoInstanceEvaluator
from vision_jax.ops.masks import paste_mask
from vision_jax.tasks.canvas import Sides
from vision_jax.tasks.images import Sources
from vision_jax.tasks.objects import ObjectsTask, result, sizes
from vision_jax.training.experiment import Batch, Evaluator
from vision_jax.types import (
    DetectionSpec,
    InstanceBatch,
    Instances,
    Picture,
    UserError,
    instances_to_original,
)
from vision_jax.visualization import plot_instance_batch, plot_instances


class InstanceTask(ObjectsTask):
    """Images with instance masks, evaluated at the size of the original images; opened when first needed.

    Args:
        data: `synthetic`, `coco:FOLDER` or another of those that `vision_jax.data.open` lists.
        canvas: as for `DetectionTask`.
        augment: how training images are varied.
        masks: what a batch holds of each object: a crop to its box, or a bitmap of the canvas, which takes
            height * width / mask_size^2 times the memory.
        mask_size: cells along each side of a crop; 112 is four times the 28 of the usual mask heads.

    Raises:
        UserError: impossible sides or size of masks.
    """

    metric = "mask/AP"

    def __init__(
        self,
        data: str,
        canvas: Sides | None = None,
        augment: Augment = Augment(),
        masks: Literal["crops", "full"] = "crops",
        mask_size: int = 112,
    ) -> None:
        super().__init__(canvas, augment)
        if mask_size < 1:
            raise UserError(f"mask_size is {mask_size}: give 1 or more")
        self.data = data
        self.full = masks == "full"
        self.mask_size = mask_size

    @property
    def reader(self) -> Callable[[Any, int], InstanceExample]:
        """Reads boxes and masks."""
        return partial(read_instances, size=None if self.full else self.mask_size)

    @property
    def collator(self) -> Callable[..., Batch]:
        """Stacks boxes and masks."""
        return instance_batch

    def unannotated(self, id: int, image: UInt8[np.ndarray, "h w 3"]) -> InstanceExample:
        """An example of an RGB image without objects."""
        return InstanceExample.unannotated(id, image, self.mask_size)

    def extra_bytes(self, source: InstanceSource, most: int) -> int:
        """Of masks: crops, or bitmaps of the median image's size."""
        return most * (_median_area(source) if self.full else self.mask_size**2)

    def open_sources(self, classes: tuple[str, ...] | None) -> Sources:
        """The splits of `data`."""
        return open_instances(self.data, classes)

    def evaluators(self, source: InstanceSource, spec: DetectionSpec) -> Sequence[Evaluator]:
        """COCO's average precision of masks and of boxes."""
        return [CocoInstanceEvaluator(source, spec.classes, getattr(source, "category_ids", None))]

    def plot_batch(self, batch: InstanceBatch, spec: DetectionSpec) -> Picture:
        """Images with boxes and masks."""
        return plot_instance_batch(batch, spec.classes)

    def plot_predictions(self, batch: InstanceBatch, predictions: Instances, spec: DetectionSpec) -> Picture:
        """Ground truth beside detected instances."""
        return plot_instances(batch, predictions, spec.classes)

    def to_json(self, batch: InstanceBatch, predictions: Instances, spec: DetectionSpec) -> list[list[Any]]:
        """For each valid image its objects in the format of COCO's results, masks at the original size."""
        present = np.flatnonzero(np.asarray(batch.example_valid))
        results = []
        for b, found in zip(present, instances_to_original(batch, predictions), strict=True):
            height, width = np.asarray(batch.original_size[b]).tolist()
            results.append(
                [
                    {
                        **result(found.id, box, float(score), int(label), spec.classes),
                        "segmentation": {
                            "size": [height, width],
                            "counts": pack_runs(encode_runs(paste_mask(mask, box, (height, width)))),
                        },
                    }
                    for box, score, label, mask in zip(*found[1:], strict=True)
                ]
            )
        return results


def _median_area(source: InstanceSource) -> int:
    """Of the images, in pixels; 0 where there are none."""
    return int(np.median(sizes(source).prod(1))) if len(source) else 0
