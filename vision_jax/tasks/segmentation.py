"""Semantic segmentation: a class for each pixel, evaluated by intersection over union."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from vision_jax.data.annotations.class_frequency import class_counts, median_frequency_weights
from vision_jax.data.codecs.masks import encode_runs
from vision_jax.data.examples import SegmentationExample
from vision_jax.data.open import open_segmentation
from vision_jax.data.pipeline.batching import segmentation_batch
from vision_jax.data.pipeline.reading import read_segmentation
from vision_jax.data.sources import SegmentationSource, spread
from vision_jax.data.transforms.augment import Augment, FitCanvas
from vision_jax.data.transforms.geometry import oriented, resize_labels
from vision_jax.evaluation import BoundaryEvaluator, SegmentationEvaluator
from vision_jax.tasks.canvas import Sides, check_sides, derived_sides, oriented_canvas, sampled_sizes
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Classes, Data, Evaluator, Task
from vision_jax.types import Report, Segmentation, SegmentationBatch, UserError
from vision_jax.visualization import (
    plot_class_counts,
    plot_curves,
    plot_segmentation_batch,
    plot_segmentations,
)

_COUNTED = 200
_WEIGHED = 2000

Balance = Literal["none", "mild", "median_frequency"]
_POWER: dict[Balance, float] = {"mild": 0.5, "median_frequency": 1.0}


@dataclass(frozen=True)
class SegmentationTask(Task):
    """A task whose losses may weight classes.

    Attributes:
        class_weights: () -> a weight for each class, or None where all are equal. Reads the training labels,
            once, where classes are to be balanced and no weights were given.
    """

    class_weights: Callable[[], tuple[float, ...] | None] = lambda: None


def segmentation(
    data: str,
    canvas: Sides | None = None,
    augment: Augment = Augment(),
    balance: Balance = "none",
    class_weights: tuple[float, ...] | None = None,
    boundaries: bool = False,
) -> SegmentationTask:
    """Joins a data set of images with label maps, its evaluator and its plots.

    Args:
        data: `synthetic`, `labels:FOLDER` or another of those that `vision_jax.data.open` lists.
        canvas: (long, short) sides in pixels of the canvas that images are resized into, aspect ratio kept;
            landscape or portrait as most images of the split are. None takes the median shape of the training
            images, at most 512 pixels long, in multiples of 32.
        augment: how training images are varied.
        balance: how the pixels of a class are weighted: equally, by median frequency balancing
            (`median_frequency_weights` of at most 2,000 training label maps; a class absent from these gets
            the largest weight), or `mild`: the square root of that.
            The command line records the weights with a run. From Python give them, as `class_weights`, to
            predict without the training data.
        class_weights: used instead of these, one for each class.
        boundaries: whether to evaluate near boundaries too (`BoundaryEvaluator`).

    Returns:
        The task, which evaluates at the size of the original label maps; data are opened when first needed.

    Raises:
        UserError: impossible sides or class weights.
    """
    check_sides(canvas)
    if class_weights is not None and not sum(class_weights) > 0:
        raise UserError(f"class_weights is {class_weights}: give numbers, of which one at least is above 0")

    @cache
    def opened(classes: Classes | None) -> tuple[SegmentationSource, SegmentationSource]:
        return open_segmentation(data, classes)

    @cache
    def sides(classes: Classes | None = None) -> Sides:
        return canvas or derived_sides(sampled_sizes(opened(classes)[0]))

    @cache
    def weights() -> tuple[float, ...] | None:
        if class_weights is not None or balance == "none":
            return class_weights
        source = opened(None)[0]
        counts = class_counts(source, _WEIGHED)
        found = median_frequency_weights(counts, _POWER[balance])
        unseen = np.flatnonzero(counts.sum(axis=0) == 0)
        if len(unseen) and len(counts) < len(source):
            found[unseen] = found.max()
            logging.getLogger("vision_jax").warning(
                "%s: in the %d label maps counted for the weights of classes there is no %s: they get the "
                "largest weight of the others",
                data, len(counts), ", ".join(source.classes[i] for i in unseen),
            )  # fmt: skip
        return tuple(float(f"{weight:.4g}") for weight in found)

    def open_data(classes: Classes | None) -> Data:
        train, val = opened(classes)
        if class_weights is not None and len(class_weights) != len(train.classes):
            names = ", ".join(train.classes)
            raise UserError(
                f"class_weights has {len(class_weights)} numbers for {len(train.classes)} classes: {names}"
            )
        return _data(train, val, sides(classes), augment, boundaries)

    def resolve() -> dict[str, Any]:
        found = weights()
        return {"canvas": sides()} | ({} if found is None else {"class_weights": found})

    return SegmentationTask(
        open=open_data,
        prepare=lambda images, ids: _prepare(images, ids, sides()),
        plot_batch=plot_segmentation_batch,
        plot_predictions=plot_segmentations,
        to_json=_to_json,
        metric="mIoU",
        resolve=resolve,
        plot_curves=plot_curves,
        class_weights=weights,
    )


def _data(
    train: SegmentationSource, val: SegmentationSource, sides: Sides, augment: Augment, boundaries: bool
) -> Data:
    training, validation = _loading(train, sides), _loading(val, sides)
    plain = Augment(hflip=0)

    def evaluators(source: SegmentationSource) -> list[Evaluator]:
        near = [BoundaryEvaluator(source.classes, source)] if boundaries else []
        return [SegmentationEvaluator(source.classes, source), *near]

    def overfit(n: int) -> Data:
        return Data(
            classes=train.classes,
            train=lambda batch_size, seed, workers: training.train(plain, batch_size, seed, workers, n),
            evaluation=lambda batch_size: training.evaluation(batch_size, n),
            evaluators=lambda: evaluators(train),
            overfit=overfit,
            summary=lambda: _summary({"train": train}, training, plain, n),
        )

    return Data(
        classes=train.classes,
        train=lambda batch_size, seed, workers: training.train(augment, batch_size, seed, workers),
        evaluation=validation.evaluation,
        evaluators=lambda: evaluators(val),
        overfit=overfit,
        summary=lambda: _summary({"train": train, "val": val}, training, augment, None),
    )


def _loading(source: SegmentationSource, sides: Sides) -> Loading:
    """A split, loaded on a canvas in the orientation of most of its images."""
    canvas = oriented_canvas(sampled_sizes(source), sides)

    def collate(batch_size: int) -> Callable[[Sequence[SegmentationExample]], SegmentationBatch]:
        return partial(segmentation_batch, canvas=canvas, batch_size=batch_size)

    return Loading(
        source, read_segmentation, canvas, collate, bytes_per_pixel=3 + np.dtype(np.int32).itemsize
    )


def _prepare(images: Sequence[np.ndarray], ids: Sequence[int], sides: Sides) -> SegmentationBatch:
    """A batch for `predict` from uint8 RGB images [h, w, 3]; each is resized in its own orientation."""
    canvases = [oriented((sides[1], sides[0]), *image.shape[:2]) for image in images]
    examples = [
        FitCanvas(canvas)(
            SegmentationExample(id, image, np.full(image.shape[:2], -1, np.int32), image.shape[:2])
        )
        for id, image, canvas in zip(ids, images, canvases, strict=True)
    ]
    canvas = max(h for h, _ in canvases), max(w for _, w in canvases)
    return segmentation_batch(examples, canvas, len(examples))


def _to_json(batch: SegmentationBatch, predictions: Segmentation, classes: Classes) -> list[Any]:
    """For each valid image its classes' regions as COCO's uncompressed run lengths; category ids are 1..K."""
    results = []
    for b in np.flatnonzero(np.asarray(batch.example_valid)):
        labels = _at_original_size(batch, np.asarray(predictions.labels[b]), int(b))
        results.append(
            [
                {
                    "image_id": int(batch.id[b]),
                    "category_id": int(k) + 1,
                    "category": classes[int(k)],
                    "area": int((labels == k).sum()),
                    "segmentation": {"size": list(labels.shape), "counts": encode_runs(labels == k).tolist()},
                }
                for k in np.unique(labels)
            ]
        )
    return results


def _at_original_size(
    batch: SegmentationBatch, labels: Int[np.ndarray, "h w"], b: int
) -> Int[np.ndarray, "original_h original_w"]:
    """Image b's labels at its original size: each original pixel has the label at its center."""
    height, width = np.asarray(batch.size[b])
    rows, columns = np.asarray(batch.original_size[b])
    return resize_labels(labels[:height, :width], (int(rows), int(columns)))


def _summary(
    splits: dict[str, SegmentationSource], training: Loading, augment: Augment, first: int | None
) -> Report:
    """Numbers of images, pixels of each class, sizes, and a training batch."""
    metrics: dict[str, float] = {}
    columns = {}
    classes = training.source.classes
    for name, source in splits.items():
        count = len(source) if first is None else min(first, len(source))
        counts, void = _pixels(source, count, len(classes))
        columns[name] = counts.tolist()
        sizes = sampled_sizes(source)
        metrics |= {
            f"{name}/images": count,
            f"{name}/median_height": float(np.median(sizes[:, 0])) if count else float("nan"),
            f"{name}/median_width": float(np.median(sizes[:, 1])) if count else float("nan"),
            f"{name}/void_fraction": void / max(1, void + counts.sum()),
        }
    batch = next(training.train(augment, 8, 0, 0, first))
    return Report(
        metrics | {"canvas/long": max(training.canvas), "canvas/short": min(training.canvas)},
        {"classes.md": counts_table(classes, columns, f"pixels (of at most {_COUNTED} images)")},
        {
            "data.png": picture(
                [
                    plot_segmentation_batch(batch, classes),
                    plot_class_counts(np.array(columns["train"]), classes, "training pixels"),
                ]
            )
        },
    )


def _pixels(source: SegmentationSource, count: int, num_classes: int) -> tuple[Int[np.ndarray, " k"], int]:
    """Counts the pixels of each class (int64) and the void ones, over at most 200 images, evenly spread.

    Args:
        source: with label maps, 0..K-1, -1 where void.
        count: number of its first images to sample from.
        num_classes: K.
    """
    total, void = np.zeros(num_classes, np.int64), 0
    for i in spread(count, _COUNTED):
        labels = source.labels(i)
        total += np.bincount(labels[labels >= 0], minlength=num_classes)
        void += int((labels < 0).sum())
    return total, void
