"""Image classification: one class an image, evaluated by accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from vision_jax.data.digits.distortions import Distort, Distortion
from vision_jax.data.examples import ClassificationExample
from vision_jax.data.open import open_classification
from vision_jax.data.pipeline.batching import classification_batch
from vision_jax.data.pipeline.reading import read_classification
from vision_jax.data.sources import ClassificationSource
from vision_jax.data.transforms.augment import NO_AUGMENT, Augment, FitCanvas
from vision_jax.data.transforms.geometry import oriented
from vision_jax.evaluation import ClassificationEvaluator
from vision_jax.tasks.canvas import Sides, check_sides, derived_sides, oriented_canvas, sampled_sizes
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Classes, Data, Task
from vision_jax.types import Classification, ClassificationBatch, Report, UserError
from vision_jax.visualization import (
    plot_class_counts,
    plot_classification_batch,
    plot_classifications,
    plot_curves,
)

_LONGEST = 224


def classification(
    data: str,
    canvas: Sides | None = None,
    augment: Augment = NO_AUGMENT,
    distortion: Distortion | None = None,
) -> Task:
    """Joins a data set of labeled images, its evaluator and its plots.

    Args:
        data: `digits`, `idx:FOLDER` or `folder:FOLDER`, with the options of `vision_jax.data.open`.
        canvas: (long, short) sides in pixels of the canvas that images are resized into, aspect ratio kept,
            padding black; landscape or portrait as most images of the split are. None takes the median size
            of the training images, at most 224 pixels long.
        augment: how training images are varied; by default not at all, since a mirrored digit is not a digit.
        distortion: of all images, new at each training step and fixed in evaluation. It sets the canvas and
            replaces `augment`.

    Returns:
        The task; data are opened when they are first needed.

    Raises:
        UserError: impossible sides; a canvas or an augmentation beside a distortion.
    """
    check_sides(canvas)
    if distortion is not None:
        if canvas is not None or augment != NO_AUGMENT:
            raise UserError(
                "distorted images have their own canvas and augmentation: leave out `canvas` and `augment`"
            )
        canvas = (distortion.canvas, distortion.canvas)

    @cache
    def opened(classes: Classes | None) -> tuple[ClassificationSource, ClassificationSource]:
        return open_classification(data, classes)

    @cache
    def sides(classes: Classes | None = None) -> Sides:
        return canvas or derived_sides(sampled_sizes(opened(classes)[0]), _LONGEST, 1)

    def open_data(classes: Classes | None) -> Data:
        return _data(*opened(classes), sides(classes), augment, distortion)

    return Task(
        open=open_data,
        prepare=lambda images, ids: _prepare(images, ids, sides()),
        plot_batch=plot_classification_batch,
        plot_predictions=plot_classifications,
        to_json=_to_json,
        metric="accuracy",
        resolve=lambda: {"canvas": sides()},
        plot_curves=plot_curves,
    )


def _data(
    train: ClassificationSource,
    val: ClassificationSource,
    sides: Sides,
    augment: Augment,
    distortion: Distortion | None,
) -> Data:
    training, validation = _loading(train, sides, distortion), _loading(val, sides, distortion)

    def overfit(n: int) -> Data:
        return Data(
            classes=train.classes,
            train=lambda batch_size, seed, workers: training.train(NO_AUGMENT, batch_size, seed, workers, n),
            evaluation=lambda batch_size: training.evaluation(batch_size, n),
            evaluators=lambda: [ClassificationEvaluator(train.classes)],
            overfit=overfit,
            summary=lambda: _summary({"train": train}, training, NO_AUGMENT, n),
        )

    return Data(
        classes=train.classes,
        train=lambda batch_size, seed, workers: training.train(augment, batch_size, seed, workers),
        evaluation=validation.evaluation,
        evaluators=lambda: [ClassificationEvaluator(val.classes)],
        overfit=overfit,
        summary=lambda: _summary({"train": train, "val": val}, training, augment, None),
    )


def _loading(source: ClassificationSource, sides: Sides, distortion: Distortion | None) -> Loading:
    """A split, loaded on a canvas in the orientation of most of its images."""
    canvas = oriented_canvas(sampled_sizes(source), sides)

    def collate(batch_size: int) -> Callable[[Sequence[ClassificationExample]], ClassificationBatch]:
        return partial(classification_batch, canvas=canvas, batch_size=batch_size)

    distort = None if distortion is None else Distort(distortion, source)
    return Loading(source, read_classification, canvas, collate, distort=distort)


def _prepare(images: Sequence[np.ndarray], ids: Sequence[int], sides: Sides) -> ClassificationBatch:
    """A batch for `predict` from uint8 RGB images [h, w, 3]; each is resized in its own orientation."""
    canvases = [oriented((sides[1], sides[0]), *image.shape[:2]) for image in images]
    examples = [
        FitCanvas(canvas)(ClassificationExample(id, image, -1))
        for id, image, canvas in zip(ids, images, canvases, strict=True)
    ]
    canvas = max(h for h, _ in canvases), max(w for _, w in canvases)
    return classification_batch(examples, canvas, len(examples))


def _to_json(batch: ClassificationBatch, predictions: Classification, classes: Classes) -> list[Any]:
    """For each valid image its most probable classes, at most five, with their probabilities."""
    results = []
    for b in np.flatnonzero(np.asarray(batch.example_valid)):
        probabilities = np.asarray(predictions.probabilities[b])
        best = np.argsort(-probabilities, kind="stable")[:5]
        results.append(
            [
                {
                    "image_id": int(batch.id[b]),
                    "category": classes[int(predictions.labels[b])],
                    "best": {classes[int(k)]: round(float(probabilities[k]), 5) for k in best},
                }
            ]
        )
    return results


def _summary(
    splits: dict[str, ClassificationSource], training: Loading, augment: Augment, first: int | None
) -> Report:
    """Numbers of images of each class, sizes, and a training batch."""
    metrics: dict[str, float] = {}
    columns = {}
    classes = training.source.classes
    for name, source in splits.items():
        count = len(source) if first is None else min(first, len(source))
        labels = np.array([source.record(i).label for i in range(count)], np.int32)
        columns[name] = np.bincount(labels, minlength=len(classes)).tolist()
        sizes = sampled_sizes(source)
        metrics |= {
            f"{name}/images": count,
            f"{name}/median_height": float(np.median(sizes[:, 0])) if count else float("nan"),
            f"{name}/median_width": float(np.median(sizes[:, 1])) if count else float("nan"),
        }
    batch = next(training.train(augment, 32, 0, 0, first))
    counts = np.array(columns["train"])
    return Report(
        metrics | {"canvas/long": max(training.canvas), "canvas/short": min(training.canvas)},
        {"classes.md": counts_table(classes, columns, "images")},
        {
            "data.png": picture(
                [
                    plot_classification_batch(batch, classes),
                    plot_class_counts(counts, classes, "training images"),
                ]
            )
        },
    )
