"""Image classification: one class an image, evaluated by accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.digits.distortions import Distort, Distortion
from vision_jax.data.examples import ClassificationExample
from vision_jax.data.open import open_classification
from vision_jax.data.pipeline.batching import classification_batch
from vision_jax.data.pipeline.reading import read_classification
from vision_jax.data.sources import ClassificationSource
from vision_jax.data.transforms.augment import NO_AUGMENT, Augment, FitCanvas, train_transform
from vision_jax.data.transforms.geometry import Canvas
from vision_jax.evaluation import ClassificationEvaluator
from vision_jax.tasks.canvas import Sides, derived_sides, oriented_canvas, sampled_sizes
from vision_jax.tasks.images import ImageTask, Sources, example_bytes, fitted
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Evaluator
from vision_jax.types import (
    Classification,
    ClassificationBatch,
    ClassificationSpec,
    Picture,
    Report,
    UserError,
)
from vision_jax.visualization import plot_class_counts, plot_classification_batch, plot_classifications

_LONGEST = 224


class ClassificationTask(ImageTask[ClassificationSpec]):
    """Labeled images; data are opened when they are first needed.

    Args:
        data: `digits`, `idx:FOLDER` or `folder:FOLDER`, with the options of `vision_jax.data.open`.
        canvas: (long, short) sides in pixels of the canvas that images are resized into, aspect ratio kept,
            padding black; landscape or portrait as most images of the split are. None takes the median size
            of the training images, at most 224 pixels long.
        augment: how training images are varied; by default not at all, since a mirrored digit is not a digit.
        distortion: of all images, new at each training step and fixed in evaluation. It sets the canvas and
            replaces `augment`.

    Raises:
        UserError: impossible sides; a canvas or an augmentation beside a distortion.
    """

    spec_type = ClassificationSpec
    metric = "accuracy"

    def __init__(
        self,
        data: str,
        canvas: Sides | None = None,
        augment: Augment = NO_AUGMENT,
        distortion: Distortion | None = None,
    ) -> None:
        if distortion is not None:
            if canvas is not None or augment != NO_AUGMENT:
                raise UserError(
                    "distorted images have their own canvas and augmentation: "
                    "leave out `canvas` and `augment`"
                )
            canvas = (distortion.canvas, distortion.canvas)
        super().__init__(canvas, augment)
        self.data = data
        self.distortion = distortion

    def open_sources(self, classes: tuple[str, ...] | None) -> Sources:
        """The splits of `data`."""
        return open_classification(self.data, classes)

    def decide(self, train: ClassificationSource) -> ClassificationSpec:
        """Its classes, and the median size of its images where no canvas was given."""
        return ClassificationSpec(
            tuple(train.classes), self.canvas or derived_sides(sampled_sizes(train), _LONGEST, 1)
        )

    def loadings(
        self, sources: Sources, spec: ClassificationSpec, augment: Augment
    ) -> tuple[Loading, Loading]:
        """Each split on a canvas in the orientation of most of its images."""
        train, val = (self._loading(source, spec, augment) for source in sources)
        return train, val

    def _loading(self, source: ClassificationSource, spec: ClassificationSpec, augment: Augment) -> Loading:
        canvas = oriented_canvas(sampled_sizes(source), spec.canvas)
        if self.distortion is None:
            transform, prepare = train_transform(augment, canvas), FitCanvas(canvas)
        else:
            transform = Distort(self.distortion, source)
            prepare = transform.for_evaluation
        return Loading(
            source,
            read_classification,
            transform,
            prepare,
            partial(collate, canvas),
            train_bytes=example_bytes(canvas, augment, 3),
            evaluation_bytes=example_bytes(canvas, None, 3),
        )

    def evaluators(self, source: Any, spec: ClassificationSpec) -> Sequence[Evaluator]:
        """Accuracy."""
        return [ClassificationEvaluator(spec.classes)]

    def prepare(
        self, inputs: Sequence[UInt8[np.ndarray, "_ _ 3"]], ids: Sequence[int], spec: ClassificationSpec
    ) -> ClassificationBatch:
        """A batch of uint8 RGB images; each is resized in its own orientation."""
        unfitted = [
            ClassificationExample.unannotated(id, image) for id, image in zip(ids, inputs, strict=True)
        ]
        examples, canvas = fitted(unfitted, spec.canvas)
        return classification_batch(examples, canvas, len(examples))

    def plot_batch(self, batch: ClassificationBatch, spec: ClassificationSpec) -> Picture:
        """Images with their classes."""
        return plot_classification_batch(batch, spec.classes)

    def plot_predictions(
        self, batch: ClassificationBatch, predictions: Classification, spec: ClassificationSpec
    ) -> Picture:
        """Images with their classes and the predicted ones."""
        return plot_classifications(batch, predictions, spec.classes)

    def to_json(
        self, batch: ClassificationBatch, predictions: Classification, spec: ClassificationSpec
    ) -> list[list[Any]]:
        """For each valid image its most probable classes, at most five, with their probabilities."""
        results = []
        for b in np.flatnonzero(np.asarray(batch.example_valid)):
            probabilities = np.asarray(predictions.probabilities[b])
            best = np.argsort(-probabilities, kind="stable")[:5]
            results.append(
                [
                    {
                        "image_id": int(batch.id[b]),
                        "category": spec.classes[int(predictions.labels[b])],
                        "best": {spec.classes[int(k)]: round(float(probabilities[k]), 5) for k in best},
                    }
                ]
            )
        return results

    def summary(self, splits: Mapping[str, Any], training: Loading, spec: ClassificationSpec) -> Report:
        """Numbers of images of each class, sizes, and a training batch."""
        metrics: dict[str, float] = {}
        columns = {}
        for name, source in splits.items():
            labels = np.array([source.record(i).label for i in range(len(source))], np.int32)
            columns[name] = np.bincount(labels, minlength=len(spec.classes)).tolist()
            sizes = sampled_sizes(source)
            metrics |= {
                f"{name}/images": len(source),
                f"{name}/median_height": float(np.median(sizes[:, 0])) if len(sizes) else float("nan"),
                f"{name}/median_width": float(np.median(sizes[:, 1])) if len(sizes) else float("nan"),
            }
        batch = next(training.train(32, 0, 0))
        counts = np.array(columns["train"])
        return Report(
            metrics | {"canvas/long": spec.canvas[0], "canvas/short": spec.canvas[1]},
            {"classes.md": counts_table(spec.classes, columns, "images")},
            {
                "data.png": picture(
                    [
                        plot_classification_batch(batch, spec.classes),
                        plot_class_counts(counts, spec.classes, "training images"),
                    ]
                )
            },
        )


def collate(
    canvas: Canvas, batch_size: int
) -> Callable[[Sequence[ClassificationExample]], ClassificationBatch]:
    """A function that stacks examples on a canvas (height, width)."""
    return partial(classification_batch, canvas=canvas, batch_size=batch_size)
