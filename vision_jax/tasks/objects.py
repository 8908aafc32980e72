"""What detection and instance segmentation have in common: images of any size with objects in boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from vision_jax.data.annotations.checks import nothing_wanted
from vision_jax.data.examples import DetectionExample
from vision_jax.data.pipeline.batching import count_objects
from vision_jax.data.pipeline.loader import canvases
from vision_jax.data.sources import DetectionSource, spread
from vision_jax.data.transforms.augment import NO_AUGMENT, Augment, FitCanvas
from vision_jax.data.transforms.geometry import Canvas
from vision_jax.tasks.canvas import Sides, check_sides, derived_sides
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Batch, Classes, Data, Evaluator, Predictions, Task
from vision_jax.types import Picture, Report, UserError
from vision_jax.visualization import (
    plot_box_sizes,
    plot_class_counts,
    plot_curves,
    plot_image_sizes,
    side_by_side,
)

_LOOKED_AT = 256


@dataclass(frozen=True)
class Kind:
    """What is particular to one kind of task.

    Attributes:
        open: (classes or None) -> (training, evaluation), sources that have at least boxes.
        read: (source, index) -> example; can be pickled for loader processes.
        collate: (examples, canvas, max_objects, batch_size) -> batch; can be pickled.
        unannotated: (id, image) -> an example without objects.
        extra_bytes: (source, most objects in an image) -> bytes that an example holds besides its image.
        evaluators: (source, number of its first images to use or None) -> fresh evaluators.
        plot_batch, plot_predictions, to_json, metric: as in `Task`.
    """

    open: Callable[[Classes | None], tuple[Any, Any]]
    read: Callable[[Any, int], DetectionExample]
    collate: Callable[..., Batch]
    unannotated: Callable[[int, UInt8[np.ndarray, "h w 3"]], DetectionExample]
    extra_bytes: Callable[[Any, int], int]
    evaluators: Callable[[Any, int | None], Sequence[Evaluator]]
    plot_batch: Callable[[Batch, Classes], Picture]
    plot_predictions: Callable[[Batch, Predictions, Classes], Picture]
    to_json: Callable[[Batch, Predictions, Classes], list[Any]]
    metric: str


def objects_task(kind: Kind, canvas: Sides | None, augment: Augment, max_objects: int | None = None) -> Task:
    """Joins a data set, its evaluators and its plots.

    Args:
        kind: of task.
        canvas, augment, max_objects: as for `detection`.

    Returns:
        The task; data are opened when they are first needed.

    Raises:
        UserError: impossible sides or number of objects.
    """
    check_sides(canvas)
    if max_objects is not None and max_objects < 1:
        raise UserError(f"max_objects is {max_objects}: give 1 or more, or leave it out")
    opened = cache(kind.open)

    @cache
    def sides(classes: Classes | None = None) -> Sides:
        return canvas or derived_sides(sizes(opened(classes)[0]))

    def open_data(classes: Classes | None) -> Data:
        return _data(kind, *opened(classes), sides(classes), augment, max_objects)

    def prepare(images: Sequence[np.ndarray], ids: Sequence[int]) -> Batch:
        long, short = sides()
        examples = [kind.unannotated(id, image) for id, image in zip(ids, images, strict=True)]
        fitted = [FitCanvas((short, long))(example) for example in examples]
        return kind.collate(fitted, (short, long), 1, len(fitted))

    return Task(
        open=open_data,
        prepare=prepare,
        plot_batch=kind.plot_batch,
        plot_predictions=kind.plot_predictions,
        to_json=kind.to_json,
        metric=kind.metric,
        resolve=lambda: {"canvas": sides()},
        plot_curves=plot_curves,
    )


def sizes(source: DetectionSource) -> Int[np.ndarray, "n 2"]:
    """(height, width) of at most 256 images, evenly spread: int32, pixels; reads no image."""
    records = [source.record(i) for i in spread(len(source), _LOOKED_AT)]
    return np.array([(record.height, record.width) for record in records], np.int32).reshape(-1, 2)


def unannotated(id: int, image: UInt8[np.ndarray, "h w 3"]) -> DetectionExample:
    """An example of an RGB image without objects."""
    none = np.zeros(0, np.int32)
    boxes = np.zeros((0, 4), np.float32)
    return DetectionExample(id, image, boxes, none, none.astype(bool), image.shape[:2])


def result(
    id: int, box: Float[np.ndarray, " 4"], score: float, label: int, classes: Classes
) -> dict[str, Any]:
    """One object in the format of COCO's results, with the class's name; category ids are 1..K.

    Args:
        id: of the image.
        box: float32, (x1, y1, x2, y2) in the original image's pixels.
        score: 0..1.
        label: 0..K-1.
        classes: K names.
    """
    x1, y1, x2, y2 = map(float, box)
    return {
        "image_id": id,
        "category_id": label + 1,
        "category": classes[label],
        "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
        "score": round(score, 5),
    }


def _data(
    kind: Kind,
    train: DetectionSource,
    val: DetectionSource,
    sides: Sides,
    augment: Augment,
    max_objects: int | None,
) -> Data:
    most = max_objects or max(count_objects(train), count_objects(val))
    canvas = (sides[1], sides[0])
    training, validation = (_loading(kind, source, canvas, most) for source in (train, val))

    def train_batches(augment: Augment, batch_size: int, seed: int, workers: int, first: int | None) -> Any:
        reason = nothing_wanted(train, first)
        if reason is not None:
            raise UserError(f"there is nothing to learn in the training images: {reason}")
        return training.train(augment, batch_size, seed, workers, first)

    def overfit(n: int) -> Data:
        return Data(
            classes=train.classes,
            train=lambda batch_size, seed, workers: train_batches(NO_AUGMENT, batch_size, seed, workers, n),
            evaluation=lambda batch_size: training.evaluation(batch_size, n),
            evaluators=lambda: kind.evaluators(train, n),
            overfit=overfit,
            summary=lambda: _summary(kind, {"train": train}, training, NO_AUGMENT, n),
        )

    return Data(
        classes=train.classes,
        train=lambda batch_size, seed, workers: train_batches(augment, batch_size, seed, workers, None),
        evaluation=validation.evaluation,
        evaluators=lambda: kind.evaluators(val, None),
        overfit=overfit,
        summary=lambda: _summary(kind, {"train": train, "val": val}, training, augment, None),
    )


def _loading(kind: Kind, source: DetectionSource, canvas: Canvas, most: int) -> Loading:
    """A split, loaded on a landscape or a portrait canvas with at most `most` objects an image."""

    def collate(batch_size: int) -> Callable[[Sequence[Any]], Batch]:
        return partial(kind.collate, canvas=canvas, max_objects=most, batch_size=batch_size)

    groups = partial(canvases, source, canvas)
    return Loading(source, kind.read, canvas, collate, groups, kind.extra_bytes(source, most))


def _summary(
    kind: Kind,
    splits: dict[str, DetectionSource],
    training: Loading,
    augment: Augment,
    first: int | None,
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
        extents = np.array([(r.height, r.width) for r in records], np.int32).reshape(-1, 2)
        metrics |= {
            f"{name}/images": count,
            f"{name}/images_without_objects": sum(not (~r.ignore).any() for r in records),
            f"{name}/objects": len(labels),
            f"{name}/ignored": sum(int(r.ignore.sum()) for r in records),
            f"{name}/most_objects_in_an_image": max((len(r.labels) for r in records), default=0),
            f"{name}/median_height": float(np.median(extents[:, 0])) if count else float("nan"),
            f"{name}/median_width": float(np.median(extents[:, 1])) if count else float("nan"),
            f"{name}/median_object_side": _median_side(boxes),
        }
        columns[name] = np.bincount(labels, minlength=len(classes)).tolist()
        if name == "train":
            pictures += [
                plot_class_counts(np.array(columns[name]), classes, "training objects"),
                plot_box_sizes(boxes),
                plot_image_sizes(extents),
            ]
    batch = next(training.train(augment, 8, 0, 0, first))
    return Report(
        metrics | {"canvas/long": max(training.canvas), "canvas/short": min(training.canvas)},
        {"classes.md": counts_table(classes, columns, "objects")},
        {"data.png": picture([kind.plot_batch(batch, classes), side_by_side(pictures)])},
    )


def _median_side(boxes: Float[np.ndarray, "n 4"]) -> float:
    """The median over boxes (x1, y1, x2, y2) of the square root of their area, in pixels; NaN for no box."""
    if not len(boxes):
        return float("nan")
    sides = boxes[:, 2:] - boxes[:, :2]
    return float(np.median(np.sqrt(sides[:, 0] * sides[:, 1])))
