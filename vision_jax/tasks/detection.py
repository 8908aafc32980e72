"""Object detection: boxes and classes, evaluated by average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from vision_jax.data.open import open_detection
from vision_jax.data.pipeline.batching import detection_batch
from vision_jax.data.pipeline.reading import read_detection
from vision_jax.data.sources import DetectionSource
from vision_jax.data.transforms.augment import Augment
from vision_jax.evaluation import CocoEvaluator, RecallEvaluator, VocEvaluator
from vision_jax.tasks.canvas import Sides
from vision_jax.tasks.objects import Kind, objects_task, result, unannotated
from vision_jax.training.experiment import Classes, Evaluator, Task
from vision_jax.types import DetectionBatch, Detections, to_original
from vision_jax.visualization import plot_detection_batch, plot_detections


def detection(
    data: str,
    canvas: Sides | None = None,
    augment: Augment = Augment(),
    max_objects: int | None = None,
) -> Task:
    """Joins a detection data set, its evaluators and its plots.

    Args:
        data: `synthetic`, `coco:FOLDER` or another of those that `vision_jax.data.open` lists.
        canvas: (long, short) sides in pixels of the canvas that images are resized into, aspect ratio kept;
            landscape images go on a landscape canvas, portrait ones on a portrait canvas. None takes the
            median shape of the training images, at most 512 pixels long, in multiples of 32.
        augment: how training images are varied.
        max_objects: number of boxes that a batch holds of each image, ignored ones included; None takes the
            largest number in the data.

    Returns:
        The task; data are opened when they are first needed.

    Raises:
        UserError: impossible sides or number of objects.
    """
    return objects_task(
        boxes_kind(partial(open_detection, data), _evaluators, "AP"), canvas, augment, max_objects
    )


def boxes_kind(
    open: Callable[[Classes | None], tuple[DetectionSource, DetectionSource]],
    evaluators: Callable[[Any, int | None], Sequence[Evaluator]],
    metric: str,
) -> Kind:
    """A kind of task with boxes alone; the arguments are those of `Kind`."""
    return Kind(
        open=open,
        read=read_detection,
        collate=detection_batch,
        unannotated=unannotated,
        extra_bytes=lambda source, most: 0,
        evaluators=evaluators,
        plot_batch=plot_detection_batch,
        plot_predictions=plot_detections,
        to_json=_to_json,
        metric=metric,
    )


def _evaluators(source: DetectionSource, first: int | None) -> Sequence[Evaluator]:
    """Fresh evaluators of a split, or of its `first` images."""
    records = [source.record(i) for i in range(len(source) if first is None else min(first, len(source)))]
    ids = getattr(source, "category_ids", None)
    return (
        CocoEvaluator(records, source.classes, ids),
        VocEvaluator(records, source.classes),
        RecallEvaluator(records),
    )


def _to_json(batch: DetectionBatch, detections: Detections, classes: Classes) -> list[Any]:
    """For each valid image its detections in the format of COCO's results."""
    return [
        [
            result(found.id, box, float(score), int(label), classes)
            for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
        ]
        for found in to_original(batch, detections)
    ]
