"""Accuracy of an image classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Shaped

from vision_jax.evaluation import figures
from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import Means
from vision_jax.evaluation.tables import confusion_table, markdown_table, ratio, score
from vision_jax.types import Classification, ClassificationBatch, Report


class ClassificationEvaluator:
    """Accuracy of one pass.

    Metrics, 0..1, NaN without images: `accuracy`, `accuracy/top5` with more than 5 classes, and
    `accuracy/majority`, that of answering the commonest class of these images for each.
    per_image.npz keeps which images were right, for the first two (see `read_per_image`).
    """

    def __init__(self, classes: Sequence[str]):
        """Prepares to evaluate.

        Args:
            classes: K names.
        """
        self.classes = tuple(classes)
        self._confusion = np.zeros((len(self.classes),) * 2, np.int64)
        self._ids: list[Int[np.ndarray, " b"]] = []
        self._right: list[Bool[np.ndarray, " b"]] = []
        self._top5: list[Bool[np.ndarray, " b"]] = []

    def add(self, batch: ClassificationBatch, predictions: Classification) -> None:
        """Takes one batch and the classes predicted for it; invalid examples are skipped."""
        keep = np.asarray(batch.example_valid)
        truth, answer = np.asarray(batch.labels)[keep], np.asarray(predictions.labels)[keep]
        np.add.at(self._confusion, (truth, answer), 1)
        probabilities = np.asarray(predictions.probabilities)[keep]
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
        self._top5.append((best == truth[:, None]).any(axis=1))
        self._right.append(truth == answer)
        self._ids.append(np.asarray(batch.id)[keep])

    def report(self) -> Report:
        """The metrics, `per_class_accuracy.md`, `confusion_matrix.md` and .png, and `per_image.npz`."""
        counts, total = self._confusion.sum(axis=1), int(self._confusion.sum())
        right = np.diag(self._confusion)
        metrics = {"accuracy": ratio(right.sum(), total)}
        if len(self.classes) > 5:
            metrics["accuracy/top5"] = ratio(sum(int(right.sum()) for right in self._top5), total)
        metrics["accuracy/majority"] = ratio(counts.max(initial=0), total)
        rows = [
            [name, score(ratio(right[k], counts[k])), str(counts[k]), self._mistaken_for(k)]
            for k, name in enumerate(self.classes)
        ]
        rows.append(["**all**", score(metrics["accuracy"]), str(total), ""])
        table = markdown_table(["class", "accuracy", "images", "most often taken for"], rows)
        return Report(
            metrics,
            {
                "per_class_accuracy.md": table,
                "confusion_matrix.md": confusion_table(self._confusion, self.classes, self.classes),
            },
            {
                "confusion_matrix.png": lambda path: figures.write_confusion(
                    path,
                    self._confusion,
                    self.classes,
                    self.classes,
                    f"Accuracy {score(metrics['accuracy'])}",
                ),
                "per_image.npz": self._write_per_image,
            },
        )

    def _write_per_image(self, path: Path) -> None:
        values = {"accuracy": _joined(self._right, bool)}
        if len(self.classes) > 5:
            values["accuracy/top5"] = _joined(self._top5, bool)
        PerImage(_joined(self._ids, np.int64), (Means(values),)).write(path)

    def _mistaken_for(self, label: int) -> str:
        """The class most often predicted instead of class `label`, with its count; empty without mistakes."""
        wrong = self._confusion[label].copy()
        wrong[label] = 0
        return f"{self.classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""


def _joined(parts: Sequence[Shaped[np.ndarray, " _n"]], dtype: type) -> Shaped[np.ndarray, " n"]:
    """Concatenates 1-d arrays, as `dtype`; empty without any."""
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)
