"""Accuracy of an image classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_jax.evaluation import figures
from vision_jax.evaluation.tables import confusion_table, markdown_table, ratio, score
from vision_jax.types import Classification, ClassificationBatch, Report


class ClassificationEvaluator:
    """Accuracy of one pass.

    Metrics, 0..1, NaN without images: `accuracy`, `accuracy/top5` with more than 5 classes, and
    `accuracy/majority`, which always answering the commonest class of these images would reach.
    """

    def __init__(self, classes: Sequence[str]):
        """Prepares to judge.

        Args:
            classes: K names.
        """
        self.classes = tuple(classes)
        self._confusion = np.zeros((len(self.classes),) * 2, np.int64)
        self._top5 = 0

    def add(self, batch: ClassificationBatch, predictions: Classification) -> None:
        """Takes one batch and the classes predicted for it; invalid examples are skipped."""
        keep = np.asarray(batch.example_valid)
        truth, answer = np.asarray(batch.labels)[keep], np.asarray(predictions.labels)[keep]
        np.add.at(self._confusion, (truth, answer), 1)
        probabilities = np.asarray(predictions.probabilities)[keep]
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
        self._top5 += int((best == truth[:, None]).any(axis=1).sum())

    def report(self) -> Report:
        """The metrics, `per_class_accuracy.md`, `confusion_matrix.md` and .png."""
        counts, total = self._confusion.sum(axis=1), int(self._confusion.sum())
        right = np.diag(self._confusion)
        metrics = {"accuracy": ratio(right.sum(), total)}
        if len(self.classes) > 5:
            metrics["accuracy/top5"] = ratio(self._top5, total)
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
                )
            },
        )

    def _mistaken_for(self, label: int) -> str:
        wrong = self._confusion[label].copy()
        wrong[label] = 0
        return f"{self.classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
