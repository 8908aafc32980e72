"""Object detection: boxes and classes, evaluated by average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.examples import DetectionExample
from vision_jax.data.open import open_detection
from vision_jax.data.pipeline.batching import detection_batch
from vision_jax.data.pipeline.reading import read_detection
from vision_jax.data.sources import DetectionSource
from vision_jax.data.transforms.augment import Augment
from vision_jax.evaluation import CocoEvaluator, RecallEvaluator, VocEvaluator
from vision_jax.tasks.canvas import Sides
from vision_jax.tasks.images import Sources
from vision_jax.tasks.objects import ObjectsTask, result
from vision_jax.training.experiment import Batch, Evaluator
from vision_jax.types import DetectionBatch, Detections, DetectionSpec, Picture, to_original
from vision_jax.visualization import plot_detection_batch, plot_detections


class DetectionTask(ObjectsTask):
    """Images with boxes and classes; data are opened when they are first needed.

    Args:
        data: `synthetic`, `coco:FOLDER` or another of those that `vision_jax.data.open` lists.
        canvas: (long, short) sides in pixels of the canvas that images are resized into, aspect ratio kept;
            landscape images go on a landscape canvas, portrait ones on a portrait canvas. None takes the
            median shape of the training images, at most 512 pixels long, in multiples of 32.
        augment: how training images are varied.
        max_objects: number of boxes that a batch holds of each image, ignored ones included; None takes the
            largest number in the data.

    Raises:
        UserError: impossible sides or number of objects.
    """

    metric = "AP"

    def __init__(
        self,
        data: str,
        canvas: Sides | None = None,
        augment: Augment = Augment(),
        max_objects: int | None = None,
    ) -> None:
        super().__init__(canvas, augment, max_objects)
        self.data = data

    @property
    def reader(self) -> Callable[[Any, int], DetectionExample]:
        """Reads boxes alone."""
        return read_detection

    @property
    def collator(self) -> Callable[..., Batch]:
        """Stacks boxes alone."""
        return detection_batch

    def unannotated(self, id: int, image: UInt8[np.ndarray, "h w 3"]) -> DetectionExample:
        """An example of an RGB image without objects."""
        return DetectionExample.unannotated(id, image)

    def open_sources(self, classes: tuple[str, ...] | None) -> Sources:
        """The splits of `data`."""
        return open_detection(self.data, classes)

    def evaluators(self, source: DetectionSource, spec: DetectionSpec) -> Sequence[Evaluator]:
        """COCO's and VOC's average precision, and recall."""
        records = [source.record(i) for i in range(len(source))]
        ids = getattr(source, "category_ids", None)
        return (
            CocoEvaluator(records, spec.classes, ids),
            VocEvaluator(records, spec.classes),
            RecallEvaluator(records),
        )

    def plot_batch(self, batch: DetectionBatch, spec: DetectionSpec) -> Picture:
        """Images with their boxes."""
        return plot_detection_batch(batch, spec.classes)

    def plot_predictions(
        self, batch: DetectionBatch, predictions: Detections, spec: DetectionSpec
    ) -> Picture:
        """Boxes beside detections."""
        return plot_detections(batch, predictions, spec.classes)

    def to_json(self, batch: DetectionBatch, predictions: Detections, spec: DetectionSpec) -> list[list[Any]]:
        """For each valid image its detections in the format of COCO's results."""
        return [
            [
                result(found.id, box, float(score), int(label), spec.classes)
                for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
            ]
            for found in to_original(batch, predictions)
        ]
