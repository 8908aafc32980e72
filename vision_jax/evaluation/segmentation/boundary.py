"""Scores of label maps near boundaries, which weigh little in the mean IoU of whole images.

A *boundary pixel* of class c in a label map has class c, and one of its four neighbors has another class.
More widely, a pixel lies *within w of a boundary* if the center of some pixel of another class is at most w
away from its own (Euclidean); for w = 1 these are the boundary pixels. Neither the image's border nor void
is a boundary: the classes there are not known. Predictions in truth's void are void, before anything else.
(Where annotators drew void between any two classes, as VOC's did, there are few boundary pixels, and
only bands wider than the void hold pixels.)

Three measures are made of this:

- boundary F1 (Csurka, Larlus and Perronnin 2013, "What is a good evaluation measure for semantic
  segmentation?"; the BF of Badrinarayanan, Kendall and Cipolla 2017, "SegNet"). Precision is the fraction of
  a class's predicted boundary pixels with a true one of this class at most 0.75 % of the image's diagonal
  away; recall the same of the true ones; F1 their harmonic mean, 0 where nothing is predicted or nothing
  agrees. The mean over the classes with a true boundary in the image, then over the images that have such
  classes: a class that fills its image, or borders on void only, does not count there.
- trimap scores (Kohli, Ladický and Torr 2009, "Robust higher order potentials for enforcing label
  consistency"; Krähenbühl and Koltun 2011, "Efficient inference in fully connected CRFs", section 5): pixel
  accuracy and mIoU of the pixels within w of a true boundary.
- boundary IoU (Cheng et al. 2021, "Boundary IoU"), of classes: intersection over union of the pixels of the
  true region within w of a true boundary with those of the predicted region within w of a predicted one, by
  class, then the mean over classes. `vision_jax.evaluation.detection.mask_iou` has it of COCO's instances,
  where the image's border is a contour and diagonal steps count as one.

Trimap scores and boundary IoU are taken from sums over the whole set, in whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, Int, Int32

from vision_jax.data.sources import SegmentationSource
from vision_jax.evaluation import figures
from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import Boundaries
from vision_jax.evaluation.segmentation.scores import label_map_pairs
from vision_jax.evaluation.tables import markdown_table, score
from vision_jax.types import Report, Segmentation, SegmentationBatch

# 0.75 % squared: exact where the tolerance is a whole number of pixels, as of 640 x 480.
_TOLERANCE = 9, 160_000


def boundary_f1(
    truth: Int[np.ndarray, "h w"], answer: Int[np.ndarray, "h w"], num_classes: int
) -> Float64[np.ndarray, " k"]:
    """The boundary F1 of each class in one image; see the module's text.

    Args:
        truth: 0..K-1, -1 where void.
        answer: 0..K-1; pixels where truth is void do not count.
        num_classes: K.

    Returns:
        0..1, NaN for classes without a true boundary.
    """
    height, width = truth.shape
    limit = _TOLERANCE[0] * (height**2 + width**2) // _TOLERANCE[1]
    true, found = _boundary_pixels(truth), _boundary_pixels(np.where(truth >= 0, answer, -1))
    wanted, given = (np.bincount(each[each >= 0], minlength=num_classes) for each in (true, found))
    recall = _matched(true, found, limit, num_classes) / np.maximum(wanted, 1)
    precision = _matched(found, true, limit, num_classes) / np.maximum(given, 1)
    both = precision + recall
    return np.where(wanted > 0, 2 * precision * recall / np.where(both > 0, both, 1), np.nan)


def band_counts(
    truth: Int[np.ndarray, "h w"], answer: Int[np.ndarray, "h w"], num_classes: int, widths: Sequence[int]
) -> Int32[np.ndarray, "5 widths k"]:
    """Pixels by class near the boundaries of one image.

    Args:
        truth: 0..K-1, -1 where void.
        answer: 0..K-1; pixels where truth is void do not count.
        num_classes: K.
        widths: of the bands, whole, ascending, at least 1.

    Returns:
        `right`, `true`, `predicted`, `shared` and `outlined` of `Boundaries`.
    """
    labeled = truth >= 0
    near_true = _nearest_other(truth, widths[-1])[labeled]
    near_own = _nearest_other(np.where(labeled, answer, -1), widths[-1])[labeled]
    # The narrowest band that holds a squared distance.
    narrowest = np.searchsorted(np.square(widths), np.arange(widths[-1] ** 2 + 2))
    of_true, of_own = narrowest[near_true], narrowest[near_own]

    def summed(bands: Int[np.ndarray, " n"], classes: Int[np.ndarray, " n"]) -> Int[np.ndarray, "widths k"]:
        """How many pixels of each class lie in each band, of pixels with their narrowest band and class."""
        pairs = np.bincount(bands * num_classes + classes, minlength=(len(widths) + 1) * num_classes)
        return pairs.reshape(-1, num_classes)[:-1].cumsum(axis=0)

    true, found = truth[labeled], answer[labeled]
    right = true == found
    counts = [
        summed(of_true[right], true[right]),
        summed(of_true, true),
        summed(of_true, found),
        summed(np.maximum(of_true, of_own)[right], true[right]),
        summed(of_own, found),
    ]
    return np.array(counts, np.int32)


class BoundaryEvaluator:
    """Scores of label maps near boundaries; the module's text defines them.

    Metrics: `boundary_F1`; for each width w `trimap/w` (mIoU), `trimap_accuracy/w` and `boundary_IoU/w`;
    0..1, NaN where no class has a boundary. per_image_boundary.npz keeps what each image contributes to them.
    """

    def __init__(
        self,
        classes: Sequence[str],
        source: SegmentationSource | None = None,
        widths: Sequence[int] = (1, 2, 4, 8, 16),
    ):
        """Prepares to evaluate.

        Args:
            classes: K names.
            source: of the true label maps at their own size, to which predictions are resized (to the
                nearest pixel); None takes the batch's label maps, as the model saw them.
            widths: of the bands in pixels, at least 1.

        Raises:
            ValueError: no width, or one below 1.
        """
        if not widths or min(widths) < 1:
            raise ValueError(f"bands of {widths} pixels: expected whole numbers of at least 1")
        self.classes = tuple(classes)
        self._source = source
        self._widths = tuple(sorted(set(widths)))
        self._ids: list[int] = []
        self._counts: list[Int32[np.ndarray, "5 widths k"]] = []
        self._f1: list[Float64[np.ndarray, " k"]] = []

    def add(self, batch: SegmentationBatch, predictions: Segmentation) -> None:
        """Takes one batch and the label maps predicted for it; padding and invalid examples are skipped."""
        for id, truth, answer in label_map_pairs(batch, predictions, self._source):
            self._ids.append(id)
            self._counts.append(band_counts(truth, answer, len(self.classes), self._widths))
            self._f1.append(boundary_f1(truth, answer, len(self.classes)))

    def report(self) -> Report:
        """The metrics, `boundaries.md`, `boundaries.png` and `per_image_boundary.npz`."""
        kept = self._kept()
        everything = np.ones((1, len(self._ids)), np.int32)
        metrics = {name: float(value[0]) for name, value in kept.metrics(everything, kept.names).items()}
        ious = np.array([kept.class_iou(everything, i) for i in range(len(self._widths))])[:, :, 0]
        return Report(
            metrics,
            {"boundaries.md": self._tables(metrics, kept.f1, ious[:, 0], ious[:, 1])},
            {
                "boundaries.png": lambda path: figures.write_by_width(
                    path,
                    self._widths,
                    {
                        name: [metrics[f"{metric}/{w}"] for w in self._widths]
                        for name, metric in (
                            ("pixel accuracy, true boundaries' band", "trimap_accuracy"),
                            ("mIoU, true boundaries' band", "trimap"),
                            ("boundary IoU, mean over classes", "boundary_IoU"),
                        )
                    },
                    f"Near boundaries; boundary F1 {score(metrics['boundary_F1'])}",
                ),
                "per_image_boundary.npz": self._write_per_image,
            },
        )

    def _kept(self) -> Boundaries:
        """What each image contributed."""
        shape = len(self._ids), 5, len(self._widths), len(self.classes)
        counts = np.array(self._counts, np.int32).reshape(shape)
        f1 = np.array(self._f1, np.float64).reshape(len(self._ids), len(self.classes))
        return Boundaries(np.array(self._widths, np.int64), f1, *(counts[:, i] for i in range(5)))

    def _tables(
        self,
        metrics: dict[str, float],
        f1: Float64[np.ndarray, "images k"],
        trimap: Float64[np.ndarray, "widths k"],
        boundary: Float64[np.ndarray, "widths k"],
    ) -> str:
        """The report's tables.

        Args:
            metrics: by name.
            f1: boundary F1 by image and class, 0..1, NaN where it is undefined.
            trimap: IoU in the true boundaries' band, 0..1.
            boundary: boundary IoU, 0..1.
        """
        defined = (~np.isnan(f1)).sum(axis=0)
        of_class = np.where(defined > 0, np.nansum(f1, axis=0) / np.maximum(defined, 1), np.nan)
        header = [f"within {w}" for w in self._widths]

        def means(metric: str) -> list[str]:
            """A metric's cells, one for each width."""
            return [score(metrics[f"{metric}/{w}"]) for w in self._widths]

        near_true = [
            [name, score(of_class[k]), *(score(iou) for iou in trimap[:, k])]
            for k, name in enumerate(self.classes)
        ]
        near_true.append(["**mean**", score(metrics["boundary_F1"]), *means("trimap")])
        near_true.append(["**pixel accuracy**", "", *means("trimap_accuracy")])
        near_own = [[name, *(score(iou) for iou in boundary[:, k])] for k, name in enumerate(self.classes)]
        near_own.append(["**mean**", *means("boundary_IoU")])
        lines = [
            "IoU of the pixels within so many pixels of a true boundary:",
            "",
            markdown_table(["class", "boundary F1", *header], near_true),
            "",
            "Boundary IoU: of the parts of true and predicted regions within so many pixels of their own:",
            "",
            markdown_table(["class", *header], near_own),
            "",
            "Boundary F1 has a tolerance of 0.75 % of the image's diagonal: of a class, the mean over images "
            "where it has a boundary; its mean, over images, of their classes' mean. Neither void nor the "
            "image's border is a boundary.",
        ]
        return "\n".join(lines)

    def _write_per_image(self, path: Path) -> None:
        PerImage(np.array(self._ids, np.int64), (self._kept(),)).write(path)


def _boundary_pixels(labels: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """The labels (0..K-1, -1 where void) of boundary pixels, -1 elsewhere."""
    boundary = np.zeros(labels.shape, bool)
    for there, here in ((boundary, labels), (boundary.T, labels.T)):
        differ = (here[1:] != here[:-1]) & (np.minimum(here[1:], here[:-1]) >= 0)
        there[1:] |= differ
        there[:-1] |= differ
    return np.where(boundary, labels, -1)


def _nearest_other(labels: Int[np.ndarray, "h w"], reach: int) -> Int32[np.ndarray, "h w"]:
    """Squared distance of each pixel to the nearest of another class; reach**2 + 1 beyond reach, and in void.

    Labels are 0..K-1, -1 where void; distances are in pixels.
    """
    far = reach**2 + 1
    nearest = np.full(labels.shape, far, np.int32)
    for k in np.flatnonzero(np.bincount(labels[labels >= 0])):
        left, top, width, height = cv2.boundingRect((labels == k).astype(np.uint8))
        # Another class further away than this changes nothing.
        window = (
            slice(max(0, top - reach), top + height + reach),
            slice(max(0, left - reach), left + width + reach),
        )
        seen = labels[window]
        inside = seen == k
        passed = inside | (seen < 0)
        if not passed.all():
            distance = cv2.distanceTransform(passed.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            squared = np.rint(np.square(np.minimum(distance[inside], reach + 1)))
            nearest[window][inside] = np.minimum(squared, far)
    return nearest


def _matched(
    pixels: Int[np.ndarray, "h w"], others: Int[np.ndarray, "h w"], limit: int, num_classes: int
) -> Int[np.ndarray, " k"]:
    """How many pixels of each class have one of the same class among the others nearby.

    Args:
        pixels: labels 0..K-1, -1 where there is none.
        others: likewise.
        limit: the largest squared distance, in pixels.
        num_classes: K.
    """
    rows, columns = np.nonzero(pixels >= 0)
    labels = pixels[rows, columns]
    reach = math.isqrt(limit)
    padded = np.pad(others, reach, constant_values=-1)
    positions = (rows + reach) * padded.shape[1] + columns + reach
    matched = np.zeros(num_classes, np.int64)
    for y, x in _steps(limit):
        hit = padded.ravel()[positions + (y * padded.shape[1] + x)] == labels
        matched += np.bincount(labels[hit], minlength=num_classes)
        positions, labels = positions[~hit], labels[~hit]
        if not len(labels):
            break
    return matched


@cache
def _steps(limit: int) -> tuple[tuple[int, int], ...]:
    """All offsets (rows, columns) whose squared length is at most the limit, the shortest first."""
    reach = range(-math.isqrt(limit), math.isqrt(limit) + 1)
    return tuple(
        sorted(((y, x) for y in reach for x in reach if y * y + x * x <= limit), key=_squared_length)
    )


def _squared_length(step: tuple[int, int]) -> int:
    return step[0] ** 2 + step[1] ** 2
