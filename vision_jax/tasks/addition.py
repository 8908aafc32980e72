"""Addition: two distorted digits in an image, a class for each sum, evaluated by accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from vision_jax.data.digits.distortions import Distort, Distortion
from vision_jax.data.digits.sums import SUMS, DistortSum
from vision_jax.data.pipeline.reading import read_classification
from vision_jax.data.sources import ClassificationSource
from vision_jax.data.transforms.augment import Augment
from vision_jax.tasks.classification import ClassificationTask, collate
from vision_jax.tasks.images import Sources, example_bytes
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.types import ClassificationSpec, Report, UserError
from vision_jax.visualization import plot_classification_batch


class AdditionTask(ClassificationTask):
    """Pairs of digits; data are opened when they are first needed.

    Args:
        data: the digits, as for `ClassificationTask`.
        distortion: of each digit, by random numbers of its own: new ones at each training step, fixed ones in
            evaluation.
    """

    def __init__(self, data: str, distortion: Distortion) -> None:
        super().__init__(data, distortion=distortion)
        self._distortion = distortion

    def open_sources(self, classes: tuple[str, ...] | None) -> Sources:
        """The splits of single digits."""
        if classes not in (None, SUMS):
            raise UserError(f"this run was trained on {', '.join(classes)}, not on sums of two digits")
        return super().open_sources(None)

    def decide(self, train: ClassificationSource) -> ClassificationSpec:
        """A class for each sum."""
        return ClassificationSpec(SUMS, (self._distortion.canvas, self._distortion.canvas))

    def loadings(
        self, sources: Sources, spec: ClassificationSpec, augment: Augment
    ) -> tuple[Loading, Loading]:
        """Both splits as pairs of digits."""
        train, val = (self._pairs(source, spec) for source in sources)
        return train, val

    def _pairs(self, source: ClassificationSource, spec: ClassificationSpec) -> Loading:
        distort = DistortSum(Distort(self._distortion, source))
        kept = example_bytes(spec.canvas, None, 3)
        return Loading(
            source,
            read_classification,
            distort,
            distort.for_evaluation,
            partial(collate, spec.canvas),
            train_bytes=kept,
            evaluation_bytes=kept,
        )

    def summary(self, splits: Mapping[str, Any], training: Loading, spec: ClassificationSpec) -> Report:
        """How many evaluation pairs each sum has, and a training batch."""
        val = self._pairs(splits.get("val", splits["train"]), spec)
        labels = np.concatenate([batch.labels[batch.example_valid] for batch in val.once(256)])
        counts = np.bincount(labels, minlength=len(SUMS))
        batch = next(training.train(32, 0, 0))
        return Report(
            {
                "train/digits": len(training.source),
                "val/pairs": len(labels),
                "canvas/long": spec.canvas[0],
                "canvas/short": spec.canvas[1],
            },
            {"classes.md": counts_table(SUMS, {"val": counts.tolist()}, "pairs")},
            {"data.png": picture([plot_classification_batch(batch, SUMS)])},
        )
