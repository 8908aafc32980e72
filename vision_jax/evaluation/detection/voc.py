"""PASCAL VOC's average precision (Everingham et al. 2010, section 4.2; development kits 2007 and 2012).

VOC's files hold 1-based pixels with both ends inside the box, so a width is xmax - xmin + 1. Our
(x1, y1, x2, y2), 0-based with x2 and y2 outside, is VOC's (x1 + 1, y1 + 1, x2, y2): that width is x2 - x1
again, and the IoU of two boxes is the same number in both conventions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import DetectionSource
from vision_jax.evaluation.detection.collect import CollectedDetections
from vision_jax.evaluation.detection.iou import pairwise_iou
from vision_jax.evaluation.per_image.average_precision import MatchedDetections
from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import VocMatches
from vision_jax.evaluation.tables import markdown_table, score
from vision_jax.types import DetectionBatch, Detections, ImageDetections, Report


def voc_hits(
    boxes: Float[np.ndarray, "d 4"],
    truth: Float[np.ndarray, "g 4"],
    difficult: Bool[np.ndarray, " g"],
    iou_threshold: float = 0.5,
) -> tuple[Bool[np.ndarray, " d"], Bool[np.ndarray, " d"]]:
    """Matches one image's detections of one class, best first.

    Each detection belongs to the object of the largest IoU. It is right if that IoU reaches the threshold and
    no better-scored detection took the object before: unlike in COCO's protocol, it does not turn to the next
    object. Detections of difficult objects do not count.

    Args:
        boxes: detections by falling score, (x1, y1, x2, y2), x2 and y2 exclusive.
        truth: the objects.
        difficult: which of them need not be found.
        iou_threshold: the least IoU of a detection with its object.

    Returns:
        Which detections are right, and which count (as right or as wrong).
    """
    right, counts = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if not len(truth):
        return right, counts
    iou = pairwise_iou(boxes, truth)
    taken = np.zeros(len(truth), bool)
    for d, best in enumerate(iou.argmax(axis=1)):
        if iou[d, best] < iou_threshold:
            continue
        if difficult[best]:
            counts[d] = False
        else:
            right[d] = not taken[best]
            taken[best] = True
    return right, counts


def voc_average_precision(right: Bool[np.ndarray, " d"], positives: int, eleven_point: bool = False) -> float:
    """The area under a class's precision-recall curve, made monotone from the right.

    Args:
        right: whether each detection that counts is right, by falling score over all images.
        positives: how many objects are to be found.
        eleven_point: VOC 2007's mean of the best precision at recalls 0, 0.1, ... 1, instead of the
            whole area as of VOC 2010.

    Returns:
        The average precision, 0..1; NaN without objects.
    """
    if positives == 0:
        return float("nan")
    hits = np.cumsum(right, dtype=np.int64)
    precision = hits / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    if eleven_point:
        # In integers: a recall of exactly 0.3 is not below a threshold of 0.30000000000000004.
        reached = [best_from_here[hits * 10 >= tenth * positives] for tenth in range(11)]
        return float(sum(values[0] for values in reached if len(values)) / 11)
    return float(best_from_here[right].sum() / positives)


class VocEvaluator:
    """VOC AP at IoU 0.5 of one pass over a split.

    Metrics, 0..1: `VOC/mAP` (whole area, VOC 2010 to 2012) and `VOC/mAP11` (eleven points, VOC 2007), means
    over the classes that have objects; NaN where none has. per_image_voc.npz keeps what each image
    contributed to both (see `read_per_image`).
    """

    def __init__(
        self,
        records: Sequence[DetectionRecord] | DetectionSource,
        classes: Sequence[str],
        iou_threshold: float = 0.5,
    ):
        """Prepares to evaluate a split.

        Args:
            records: the truth: every record of the split, or its source.
            classes: K names.
            iou_threshold: the least IoU of a detection with its object.
        """
        self.classes = tuple(classes)
        self.iou_threshold = iou_threshold
        self._collected = CollectedDetections(records)

    def add(self, batch: DetectionBatch, detections: Detections) -> None:
        """Takes one batch and what was detected in it."""
        self._collected.add(batch, detections)

    def report(self) -> Report:
        """The metrics, `per_class_ap_voc.md` and `per_image_voc.npz`."""
        pairs = list(self._collected)
        matched = self._match(pairs)
        area, eleven, rows = [], [], []
        for k, name in enumerate(self.classes):
            right = matched.right[(matched.labels == k) & matched.counts[:, 0, 0], 0, 0]
            positives = int(matched.wanted[0, :, k].sum())
            difficult = sum(int(((r.labels == k) & r.ignore).sum()) for r, _ in pairs)
            area.append(voc_average_precision(right, positives))
            eleven.append(voc_average_precision(right, positives, eleven_point=True))
            rows.append([name, score(area[-1]), score(eleven[-1]), str(positives), str(difficult)])
        metrics = {"VOC/mAP": _mean(area), "VOC/mAP11": _mean(eleven)}
        rows.append(["**mean**", score(metrics["VOC/mAP"]), score(metrics["VOC/mAP11"]), "", ""])
        table = markdown_table(["class", "AP", "AP 11-point", "objects", "difficult"], rows)
        per_image = PerImage(np.array([r.id for r, _ in pairs], np.int64), (VocMatches(matched),))
        return Report(
            metrics,
            {"per_class_ap_voc.md": f"{table}\n\nPASCAL VOC, IoU {self.iou_threshold:g}."},
            {"per_image_voc.npz": per_image.write},
        )

    def _match(self, pairs: Sequence[tuple[DetectionRecord, ImageDetections]]) -> MatchedDetections:
        """Every detection of a split, at one threshold and in one range of area."""
        none = np.zeros(0, np.int32)
        columns = [(none, none, none.astype(np.float32), none.astype(bool), none.astype(bool))]
        wanted = np.zeros((1, len(pairs), len(self.classes)), np.int32)
        for i, (record, found) in enumerate(pairs):
            wanted[0, i] = np.bincount(record.labels[~record.ignore], minlength=len(self.classes))
            for k in np.unique(found.labels):
                of_class, mine = record.labels == k, found.labels == k
                hits = voc_hits(
                    found.boxes[mine], record.boxes[of_class], record.ignore[of_class], self.iou_threshold
                )
                n = int(mine.sum())
                columns.append((np.full(n, k, np.int32), np.full(n, i, np.int32), found.scores[mine], *hits))
        labels, images, scores, right, counts = (np.concatenate(each) for each in zip(*columns, strict=True))
        order = np.lexsort((-scores, labels))
        right, counts = (flags[order][:, None, None] for flags in (right, counts))
        return MatchedDetections(labels[order], images[order], scores[order], right, counts, wanted)


def _mean(values: Sequence[float]) -> float:
    """The mean of the values that are not NaN; NaN where all are."""
    defined = [v for v in values if not np.isnan(v)]
    return float(np.mean(defined)) if defined else float("nan")
