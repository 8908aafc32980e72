"""Accuracies and IoU of label maps (Long, Shelhamer and Darrell 2015, section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from vision_jax.data.sources import SegmentationSource
from vision_jax.evaluation import figures
from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import Pixels
from vision_jax.evaluation.tables import confusion_table, markdown_table, ratio, score
from vision_jax.types import Report, Segmentation, SegmentationBatch


def segmentation_scores(confusion: Int[np.ndarray, "k k"]) -> dict[str, float]:
    """The four scores of the FCN paper, and those of a constant answer.

    Args:
        confusion: pixels by true class (rows) and predicted class (columns).

    Returns:
        `pixel_accuracy`; `mean_accuracy` over the classes with true pixels; `mIoU` over the classes that
        occur in truth or prediction; `fwIoU`, weighted by the classes' frequency; and
        `pixel_accuracy/majority` and `mIoU/majority`, the scores of answering the commonest class of
        these very pixels everywhere. 0..1, NaN without pixels.
    """
    total = confusion.sum()
    if total == 0:
        names = ("pixel_accuracy", "mean_accuracy", "mIoU", "fwIoU")
        return dict.fromkeys((*names, "pixel_accuracy/majority", "mIoU/majority"), float("nan"))
    right, true = np.diag(confusion), confusion.sum(axis=1)
    union = true + confusion.sum(axis=0) - right
    iou = right[union > 0] / union[union > 0]
    frequency = true[union > 0] / total
    majority = true.max() / total
    return {
        "pixel_accuracy": float(right.sum() / total),
        "mean_accuracy": float((right[true > 0] / true[true > 0]).mean()),
        "mIoU": float(iou.mean()),
        "fwIoU": float((frequency * iou).sum()),
        "pixel_accuracy/majority": float(majority),
        "mIoU/majority": float(majority / (true > 0).sum()),
    }


class SegmentationEvaluator:
    """Scores of label maps, from one exact integer confusion matrix over all pixels that are not void.

    Metrics: see `segmentation_scores`. per_image.npz keeps each image's pixels by class: how many there are,
    were predicted and are right; the first four metrics follow from it (see `read_per_image`).
    """

    def __init__(self, classes: Sequence[str], source: SegmentationSource | None = None):
        """Prepares to evaluate.

        Args:
            classes: K names.
            source: of the true label maps at their own size, to which predictions are resized (to the
                nearest pixel); None takes the batch's label maps, as the model saw them.
        """
        self.classes = tuple(classes)
        self._source = source
        self._confusion = np.zeros((len(self.classes),) * 2, np.int64)
        self._ids: list[int] = []
        self._pixels: list[Int[np.ndarray, "3 k"]] = []

    def add(self, batch: SegmentationBatch, predictions: Segmentation) -> None:
        """Takes one batch and the label maps predicted for it; padding and invalid examples are skipped."""
        for id, truth, answer in label_map_pairs(batch, predictions, self._source):
            confusion = _confusion(truth, answer, len(self.classes))
            self._confusion += confusion
            self._ids.append(id)
            self._pixels.append(np.array([np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)]))

    def report(self) -> Report:
        """The metrics, `per_class_iou.md`, `confusion_matrix.md`, `.png` (in pixels) and `per_image.npz`."""
        metrics = segmentation_scores(self._confusion)
        right, true = np.diag(self._confusion), self._confusion.sum(axis=1)
        union = true + self._confusion.sum(axis=0) - right
        rows = [
            [
                name,
                score(ratio(right[k], union[k])),
                score(ratio(right[k], true[k])),
                f"{100 * ratio(true[k], true.sum()):.2f} %",
            ]
            for k, name in enumerate(self.classes)
        ]
        rows.append(["**mean**", score(metrics["mIoU"]), score(metrics["mean_accuracy"]), ""])
        lines = [
            markdown_table(["class", "IoU", "accuracy", "fraction of pixels"], rows),
            "",
            f"Pixel accuracy {score(metrics['pixel_accuracy'])}, frequency-weighted IoU "
            f"{score(metrics['fwIoU'])}; the commonest class everywhere would reach accuracy "
            f"{score(metrics['pixel_accuracy/majority'])} and mIoU {score(metrics['mIoU/majority'])}. "
            "Void pixels do not count.",
        ]
        return Report(
            metrics,
            {
                "per_class_iou.md": "\n".join(lines),
                "confusion_matrix.md": confusion_table(self._confusion, self.classes, self.classes),
            },
            {
                "confusion_matrix.png": lambda path: figures.write_confusion(
                    path,
                    self._confusion,
                    self.classes,
                    self.classes,
                    f"Pixels; mIoU {score(metrics['mIoU'])}",
                ),
                "per_image.npz": self._write_per_image,
            },
        )

    def _write_per_image(self, path: Path) -> None:
        counts = np.array(self._pixels, np.int64).reshape(-1, 3, len(self.classes))
        pixels = Pixels(counts[:, 0], counts[:, 1], counts[:, 2])
        PerImage(np.array(self._ids, np.int64), (pixels,)).write(path)


def label_map_pairs(
    batch: SegmentationBatch, predictions: Segmentation, source: SegmentationSource | None
) -> Iterator[tuple[int, Int[np.ndarray, "_h _w"], Int[np.ndarray, "_h _w"]]]:
    """Pairs of true and predicted label maps; padding and invalid examples are left out.

    Args:
        batch: with the images' sizes in the canvas.
        predictions: for the batch.
        source: of true label maps at their own size, to which predictions are resized (to the nearest
            pixel); None takes the batch's.

    Yields:
        The example's id, its true label map, and the predicted one in the same size.
    """
    for b in np.flatnonzero(np.asarray(batch.example_valid)):
        id = int(batch.id[b])
        height, width = np.asarray(batch.size[b])
        answer = np.asarray(predictions.labels[b])[:height, :width]
        if source is None:
            yield id, np.asarray(batch.labels[b])[:height, :width], answer
        else:
            truth = source.labels(id)
            yield id, truth, _resize_nearest(answer, truth.shape[0], truth.shape[1])


def _confusion(
    truth: Int[np.ndarray, "h w"], answer: Int[np.ndarray, "h w"], num_classes: int
) -> Int[np.ndarray, "k k"]:
    """Pixels by true class (rows) and predicted class (columns), int64; void (below 0) is left out."""
    labeled = truth >= 0
    pairs = truth[labeled].astype(np.int64) * num_classes + answer[labeled]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _resize_nearest(labels: Int[np.ndarray, "h w"], height: int, width: int) -> Int[np.ndarray, "h2 w2"]:
    """Nearest-neighbor resizing: each new pixel takes the label under its center."""
    rows = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
    return labels[rows[:, None], columns]
