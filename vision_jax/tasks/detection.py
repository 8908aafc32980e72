"""Object detection: boxes and classes, judged by average precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from jaxtyping import Int

from vision_jax.data.batching import count_objects, detection_batch
from vision_jax.data.open import open_detection
from vision_jax.data.pipeline import canvases, read_detection
from vision_jax.data.transforms import Augment, Fit
from vision_jax.evaluation import CocoEvaluator, VocEvaluator
from vision_jax.tasks.canvas import Sides, check_sides, derived_sides
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Classes, Data, Evaluator, Task
from vision_jax.types import (
    DetectionBatch,
    DetectionExample,
    Detections,
    DetectionSource,
    Report,
    UserError,
    to_original,
)
from vision_jax.visualization import (
    draw_box_sizes,
    draw_class_counts,
    draw_detection_batch,
    draw_detections,
    draw_image_sizes,
)

_LOOKED_AT = 256


def detection(
    data: str,
    canvas: Sides | None = None,
    augment: Augment = Augment(),
    max_objects: int | None = None,
) -> Task:
    """Joins a detection data set, its judges and its pictures.

    Args:
        data: `synthetic`, `coco:FOLDER` or `voc:FOLDER`, with the options of `vision_jax.data.open`.
        canvas: (long, short) sides in pixels that images are resized into, aspect kept; a wide image goes on
            a wide canvas, a high one on a high one. None takes the median shape of the training images,
            at most 512 pixels long, in multiples of 32.
        augment: how training images are varied.
        max_objects: boxes an image, ignored ones included; None counts them.

    Returns:
        The task; data are opened when they are first needed.

    Raises:
        UserError: the canvas cannot be.
    """
    check_sides(canvas)
    if max_objects is not None and max_objects < 1:
        raise UserError(f"max_objects is {max_objects}: give 1 or more, or leave it out")

    @cache
    def opened(classes: Classes | None) -> tuple[DetectionSource, DetectionSource]:
        return open_detection(data, classes)

    @cache
    def sides(classes: Classes | None = None) -> Sides:
        return canvas or derived_sides(_sizes(opened(classes)[0]))

    def open_data(classes: Classes | None) -> Data:
        return _data(*opened(classes), sides(classes), augment, max_objects)

    return Task(
        open=open_data,
        prepare=lambda images, ids: _prepare(images, ids, sides()),
        draw_batch=draw_detection_batch,
        draw_predictions=draw_detections,
        to_json=_to_json,
        metric="AP",
        settle=lambda: {"canvas": sides()},
    )


def _sizes(source: DetectionSource) -> Int[np.ndarray, "n 2"]:
    """(height, width) of at most 256 images, evenly spread; reads no pixels."""
    count = len(source)
    picked = np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).round().astype(int)) if count else []
    records = [source.record(int(i)) for i in picked]
    return np.array([(record.height, record.width) for record in records], np.int32).reshape(-1, 2)


def _data(
    train: DetectionSource,
    judge: DetectionSource,
    sides: Sides,
    augment: Augment,
    max_objects: int | None,
) -> Data:
    most = max_objects or max(count_objects(train), count_objects(judge))
    training, judging = _loading(train, sides, most), _loading(judge, sides, most)

    def overfit(n: int) -> Data:
        return Data(
            classes=train.classes,
            train=lambda batch_size, seed, workers: training.train(
                Augment(hflip=0), batch_size, seed, workers, n
            ),
            evaluation=lambda batch_size: training.evaluation(batch_size, n),
            evaluators=lambda: _evaluators(train, n),
            overfit=overfit,
            summary=lambda: _summary({"train": train}, training, Augment(hflip=0), n),
        )

    return Data(
        classes=train.classes,
        train=lambda batch_size, seed, workers: training.train(augment, batch_size, seed, workers),
        evaluation=judging.evaluation,
        evaluators=lambda: _evaluators(judge, None),
        overfit=overfit,
        summary=lambda: _summary({"train": train, "val": judge}, training, augment, None),
    )


def _loading(source: DetectionSource, sides: Sides, most: int) -> Loading:
    canvas = (sides[1], sides[0])

    def collate(batch_size: int) -> Callable[[Sequence[DetectionExample]], DetectionBatch]:
        return partial(detection_batch, canvas=canvas, max_objects=most, batch_size=batch_size)

    return Loading(source, read_detection, canvas, collate, partial(canvases, source, canvas))


def _evaluators(source: DetectionSource, first: int | None) -> Sequence[Evaluator]:
    records = [source.record(i) for i in range(len(source) if first is None else min(first, len(source)))]
    ids = getattr(source, "category_ids", None)
    return CocoEvaluator(records, source.classes, ids), VocEvaluator(records, source.classes)


def _prepare(images: Sequence[np.ndarray], ids: Sequence[int], sides: Sides) -> DetectionBatch:
    canvas = (sides[1], sides[0])
    none = np.zeros(0, np.int32)
    examples = [
        Fit(canvas)(
            DetectionExample(
                id, image, np.zeros((0, 4), np.float32), none, none.astype(bool), image.shape[:2]
            )
        )
        for id, image in zip(ids, images, strict=True)
    ]
    return detection_batch(examples, canvas, 1, len(examples))


def _to_json(batch: DetectionBatch, detections: Detections, classes: Classes) -> list[Any]:
    """For each image its detections as COCO's results have them, with the class's name; ids are 1..K."""
    return [
        [
            {
                "image_id": found.id,
                "category_id": int(label) + 1,
                "category": classes[int(label)],
                "bbox": [round(float(v), 2) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
                "score": round(float(score), 5),
            }
            for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True)
        ]
        for found in to_original(batch, detections)
    ]


def _summary(
    splits: dict[str, DetectionSource], training: Loading, augment: Augment, first: int | None
) -> Report:
    """Numbers of images and objects, sizes, and a training batch."""
    metrics: dict[str, float] = {}
    columns: dict[str, list[int]] = {}
    pictures = []
    classes = training.source.classes
    for name, source in splits.items():
        count = len(source) if first is None else min(first, len(source))
        records = [source.record(i) for i in range(count)]
        labels = np.concatenate([np.zeros(0, np.int32), *(r.labels[~r.ignore] for r in records)])
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in records)])
        sizes = np.array([(r.height, r.width) for r in records], np.int32).reshape(-1, 2)
        metrics |= {
            f"{name}/images": count,
            f"{name}/images_without_objects": sum(not (~r.ignore).any() for r in records),
            f"{name}/objects": len(labels),
            f"{name}/ignored": sum(int(r.ignore.sum()) for r in records),
            f"{name}/most_objects_in_an_image": max((len(r.labels) for r in records), default=0),
            f"{name}/median_height": float(np.median(sizes[:, 0])) if count else float("nan"),
            f"{name}/median_width": float(np.median(sizes[:, 1])) if count else float("nan"),
            f"{name}/median_object_side": _median_side(boxes),
        }
        columns[name] = np.bincount(labels, minlength=len(classes)).tolist()
        if name == "train":
            pictures += [
                draw_class_counts(np.array(columns[name]), classes, "training objects"),
                draw_box_sizes(boxes),
                draw_image_sizes(sizes),
            ]
    batch = next(training.train(augment, 8, 0, 0, first))
    return Report(
        metrics | {"canvas/long": max(training.canvas), "canvas/short": min(training.canvas)},
        {"classes.md": counts_table(classes, columns, "objects")},
        {"data.png": picture([draw_detection_batch(batch, classes), *pictures])},
    )


def _median_side(boxes: np.ndarray) -> float:
    if not len(boxes):
        return float("nan")
    sides = boxes[:, 2:] - boxes[:, :2]
    return float(np.median(np.sqrt(sides[:, 0] * sides[:, 1])))
