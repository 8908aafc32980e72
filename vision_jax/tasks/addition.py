"""Addition: two distorted digits in an image, a class for each sum, evaluated by accuracy."""

from __future__ import annotations

from functools import partial

import numpy as np

from vision_jax.data.digits.distortions import Distort, Distortion
from vision_jax.data.digits.sums import SUMS, DistortSum
from vision_jax.data.open import open_classification
from vision_jax.data.pipeline.batching import classification_batch
from vision_jax.data.pipeline.reading import read_classification
from vision_jax.data.sources import ClassificationSource
from vision_jax.data.transforms.augment import NO_AUGMENT
from vision_jax.evaluation import ClassificationEvaluator
from vision_jax.tasks.classification import classification
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Classes, Data, Task
from vision_jax.types import Report, UserError
from vision_jax.visualization import plot_classification_batch, plot_curves


def addition(data: str, distortion: Distortion) -> Task:
    """Joins pairs of digits, their evaluator and their plots.

    Args:
        data: the digits, as for `classification`.
        distortion: of each digit, by random numbers of its own: new ones at each training step, fixed ones in
            evaluation.

    Returns:
        The task; data are opened when they are first needed.
    """
    single = classification(data, (distortion.canvas, distortion.canvas))

    def opened(classes: Classes | None) -> Data:
        if classes is not None and classes != SUMS:
            raise UserError(f"this run was trained on {', '.join(classes)}, not on sums of two digits")
        train, val = (_loading(source, distortion) for source in open_classification(data))
        return _data(train, val)

    return Task(
        open=opened,
        prepare=single.prepare,
        plot_batch=plot_classification_batch,
        plot_predictions=single.plot_predictions,
        to_json=single.to_json,
        metric="accuracy",
        plot_curves=plot_curves,
    )


def _loading(source: ClassificationSource, distortion: Distortion) -> Loading:
    """A split of digits, loaded as pairs of them."""
    canvas = (distortion.canvas, distortion.canvas)

    def collate(batch_size: int):
        return partial(classification_batch, canvas=canvas, batch_size=batch_size)

    distort = DistortSum(Distort(distortion, source))
    return Loading(source, read_classification, canvas, collate, distort=distort)


def _data(train: Loading, val: Loading, first: int | None = None) -> Data:
    """The data of the task; of each split its `first` digits, or all."""
    return Data(
        classes=SUMS,
        train=lambda batch_size, seed, workers: train.train(NO_AUGMENT, batch_size, seed, workers, first),
        evaluation=lambda batch_size: val.evaluation(batch_size, first),
        evaluators=lambda: [ClassificationEvaluator(SUMS)],
        overfit=lambda n: _data(train, train, n),
        summary=lambda: _summary(train, val, first),
    )


def _summary(train: Loading, val: Loading, first: int | None) -> Report:
    """How many evaluation pairs each sum has, and a training batch."""
    labels = np.concatenate([batch.labels[batch.example_valid] for batch in val.evaluation(256, first)])
    counts = np.bincount(labels, minlength=len(SUMS))
    batch = next(train.train(NO_AUGMENT, 32, 0, 0, first))
    return Report(
        {
            "train/digits": len(train.source) if first is None else min(first, len(train.source)),
            "val/pairs": len(labels),
            "canvas/long": max(train.canvas),
            "canvas/short": min(train.canvas),
        },
        {"classes.md": counts_table(SUMS, {"val": counts.tolist()}, "pairs")},
        {"data.png": picture([plot_classification_batch(batch, SUMS)])},
    )
