"""Semantic segmentation: a class for each pixel, evaluated by intersection over union."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.annotations.class_frequency import class_counts, median_frequency_weights
from vision_jax.data.codecs.masks import encode_runs
from vision_jax.data.examples import SegmentationExample
from vision_jax.data.fields.label_map import resize_labels
from vision_jax.data.open import open_segmentation
from vision_jax.data.pipeline.batching import segmentation_batch
from vision_jax.data.pipeline.reading import read_segmentation
from vision_jax.data.sources import SegmentationSource, spread
from vision_jax.data.transforms.augment import Augment, FitCanvas, train_transform
from vision_jax.data.transforms.geometry import Canvas
from vision_jax.evaluation import BoundaryEvaluator, SegmentationEvaluator
from vision_jax.tasks.canvas import Sides, derived_sides, oriented_canvas, sampled_sizes
from vision_jax.tasks.images import ImageTask, Sources, example_bytes, fitted
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Evaluator
from vision_jax.types import Picture, Report, Segmentation, SegmentationBatch, SegmentationSpec, UserError
from vision_jax.visualization import (
    plot_class_counts,
    plot_segmentation_batch,
    plot_segmentations,
)

_COUNTED = 200
_WEIGHED = 2000

Balance = Literal["none", "mild", "median_frequency"]
_POWER: dict[Balance, float] = {"mild": 0.5, "median_frequency": 1.0}


class SegmentationTask(ImageTask[SegmentationSpec]):
    """Images with label maps, evaluated at their original size; data are opened when they are first needed.

    Args:
        data: `synthetic`, `labels:FOLDER` or another of those that `vision_jax.data.open` lists.
        canvas: (long, short) sides in pixels of the canvas that images are resized into, aspect ratio kept;
            landscape or portrait as most images of the split are. None takes the median shape of the training
            images, at most 512 pixels long, in multiples of 32.
        augment: how training images are varied.
        balance: how the pixels of a class are weighted: equally, by median frequency balancing
            (`median_frequency_weights` of at most 2,000 training label maps; a class absent from these gets
            the largest weight), or `mild`: the square root of that. The weights are part of the data's spec.
        class_weights: used instead of these, one for each class.
        boundaries: whether to evaluate near boundaries too (`BoundaryEvaluator`).

    Raises:
        UserError: impossible sides or class weights.
    """

    spec_type = SegmentationSpec
    metric = "mIoU"

    def __init__(
        self,
        data: str,
        canvas: Sides | None = None,
        augment: Augment = Augment(),
        balance: Balance = "none",
        class_weights: tuple[float, ...] | None = None,
        boundaries: bool = False,
    ) -> None:
        super().__init__(canvas, augment)
        if class_weights is not None and not sum(class_weights) > 0:
            raise UserError(
                f"class_weights is {class_weights}: give numbers, of which one at least is above 0"
            )
        self.data = data
        self.balance: Balance = balance
        self.class_weights = class_weights
        self.boundaries = boundaries

    def open_sources(self, classes: tuple[str, ...] | None) -> Sources:
        """The splits of `data`."""
        train, val = open_segmentation(self.data, classes)
        if self.class_weights is not None and len(self.class_weights) != len(train.classes):
            raise UserError(
                f"class_weights has {len(self.class_weights)} numbers for {len(train.classes)} classes: "
                f"{', '.join(train.classes)}"
            )
        return train, val

    def decide(self, train: SegmentationSource) -> SegmentationSpec:
        """Its classes and their weights, and the median shape of its images where no canvas was given.

        Reads training labels where classes are to be balanced and no weights were given.
        """
        weights = self.class_weights
        if weights is None and self.balance != "none":
            weights = _balanced(train, _POWER[self.balance], self.data)
        canvas = self.canvas or derived_sides(sampled_sizes(train))
        return SegmentationSpec(tuple(train.classes), canvas, weights)

    def loadings(self, sources: Sources, spec: SegmentationSpec, augment: Augment) -> tuple[Loading, Loading]:
        """Each split on a canvas in the orientation of most of its images."""
        train, val = (_loading(source, spec, augment) for source in sources)
        return train, val

    def evaluators(self, source: SegmentationSource, spec: SegmentationSpec) -> Sequence[Evaluator]:
        """Intersection over union, and the same near boundaries where wanted."""
        near = [BoundaryEvaluator(spec.classes, source)] if self.boundaries else []
        return [SegmentationEvaluator(spec.classes, source), *near]

    def prepare(
        self, inputs: Sequence[UInt8[np.ndarray, "_ _ 3"]], ids: Sequence[int], spec: SegmentationSpec
    ) -> SegmentationBatch:
        """A batch of uint8 RGB images; each is resized in its own orientation."""
        unfitted = [SegmentationExample.unannotated(id, image) for id, image in zip(ids, inputs, strict=True)]
        examples, canvas = fitted(unfitted, spec.canvas)
        return segmentation_batch(examples, canvas, len(examples))

    def plot_batch(self, batch: SegmentationBatch, spec: SegmentationSpec) -> Picture:
        """Images with their label maps."""
        return plot_segmentation_batch(batch, spec.classes)

    def plot_predictions(
        self, batch: SegmentationBatch, predictions: Segmentation, spec: SegmentationSpec
    ) -> Picture:
        """Label maps beside predicted ones."""
        return plot_segmentations(batch, predictions, spec.classes)

    def to_json(
        self, batch: SegmentationBatch, predictions: Segmentation, spec: SegmentationSpec
    ) -> list[list[Any]]:
        """For each valid image its classes' regions as COCO's run lengths; category ids are 1..K."""
        results = []
        for b in np.flatnonzero(np.asarray(batch.example_valid)):
            labels = _at_original_size(batch, np.asarray(predictions.labels[b]), int(b))
            results.append(
                [
                    {
                        "image_id": int(batch.id[b]),
                        "category_id": int(k) + 1,
                        "category": spec.classes[int(k)],
                        "area": int((labels == k).sum()),
                        "segmentation": {
                            "size": list(labels.shape),
                            "counts": encode_runs(labels == k).tolist(),
                        },
                    }
                    for k in np.unique(labels)
                ]
            )
        return results

    def summary(self, splits: Mapping[str, Any], training: Loading, spec: SegmentationSpec) -> Report:
        """Numbers of images, pixels of each class, sizes, and a training batch."""
        metrics: dict[str, float] = {}
        columns = {}
        for name, source in splits.items():
            counts, void = _pixels(source, len(spec.classes))
            columns[name] = counts.tolist()
            sizes = sampled_sizes(source)
            metrics |= {
                f"{name}/images": len(source),
                f"{name}/median_height": float(np.median(sizes[:, 0])) if len(sizes) else float("nan"),
                f"{name}/median_width": float(np.median(sizes[:, 1])) if len(sizes) else float("nan"),
                f"{name}/void_fraction": void / max(1, void + counts.sum()),
            }
        batch = next(training.train(8, 0, 0))
        return Report(
            metrics | {"canvas/long": spec.canvas[0], "canvas/short": spec.canvas[1]},
            {"classes.md": counts_table(spec.classes, columns, f"pixels (of at most {_COUNTED} images)")},
            {
                "data.png": picture(
                    [
                        plot_segmentation_batch(batch, spec.classes),
                        plot_class_counts(np.array(columns["train"]), spec.classes, "training pixels"),
                    ]
                )
            },
        )


def _balanced(source: SegmentationSource, power: float, data: str) -> tuple[float, ...]:
    """Median frequency weights to a power, with four digits; warns of a class that no label map has."""
    counts = class_counts(source, _WEIGHED)
    found = median_frequency_weights(counts, power)
    unseen = np.flatnonzero(counts.sum(axis=0) == 0)
    if len(unseen) and len(counts) < len(source):
        found[unseen] = found.max()
        logging.getLogger("vision_jax").warning(
            "%s: in the %d label maps counted for the weights of classes there is no %s: they get the "
            "largest weight of the others",
            data, len(counts), ", ".join(source.classes[i] for i in unseen),
        )  # fmt: skip
    return tuple(float(f"{weight:.4g}") for weight in found)


def _loading(source: SegmentationSource, spec: SegmentationSpec, augment: Augment) -> Loading:
    """A split on a canvas in the orientation of most of its images."""
    canvas = oriented_canvas(sampled_sizes(source), spec.canvas)
    of_pixel = 3 + np.dtype(np.int32).itemsize
    return Loading(
        source,
        read_segmentation,
        train_transform(augment, canvas),
        FitCanvas(canvas),
        partial(_collate, canvas),
        train_bytes=example_bytes(canvas, augment, of_pixel),
        evaluation_bytes=example_bytes(canvas, None, of_pixel),
    )


def _collate(canvas: Canvas, batch_size: int) -> Callable[[Sequence[SegmentationExample]], SegmentationBatch]:
    """A function that stacks examples on a canvas (height, width)."""
    return partial(segmentation_batch, canvas=canvas, batch_size=batch_size)


def _at_original_size(
    batch: SegmentationBatch, labels: Int[np.ndarray, "h w"], b: int
) -> Int[np.ndarray, "original_h original_w"]:
    """Image b's labels at its original size: each original pixel has the label at its center."""
    height, width = np.asarray(batch.size[b])
    rows, columns = np.asarray(batch.original_size[b])
    return resize_labels(labels[:height, :width], (int(rows), int(columns)))


def _pixels(source: SegmentationSource, num_classes: int) -> tuple[Int[np.ndarray, " k"], int]:
    """Counts the pixels of each class (int64) and the void ones, over at most 200 images, evenly spread.

    Args:
        source: with label maps, 0..K-1, -1 where void.
        num_classes: K.
    """
    total, void = np.zeros(num_classes, np.int64), 0
    for i in spread(len(source), _COUNTED):
        labels = source.labels(i)
        total += np.bincount(labels[labels >= 0], minlength=num_classes)
        void += int((labels < 0).sum())
    return total, void
