"""Which class is taken for which: a detector's confusion matrix, background included."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from vision_jax.data.records import DetectionRecord
from vision_jax.evaluation.detection.iou import pairwise_ioa, pairwise_iou
from vision_jax.types import ImageDetections


def detection_confusion(
    record: DetectionRecord,
    found: ImageDetections,
    num_classes: int,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> Int[np.ndarray, "c c"]:
    """Counts one image's objects by true and by detected class.

    Greedy: from the highest score down, a detection takes the free object of the largest IoU,
    whatever the classes of the two. One that takes none is background taken for an object, unless at least
    `iou_threshold` of its own area lies in an ignored region of any class.

    Args:
        record: the truth.
        found: the detections, in the original image's pixels.
        num_classes: K.
        iou_threshold: the least IoU for taking an object, and the least IoA for lying in an ignored region.
        score_threshold: detections below it do not take part.

    Returns:
        Counts [K+1, K+1], truth in rows, detections in columns. The last row and column are background:
        the last row holds false detections, the last column missed objects.
    """
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    wanted = np.flatnonzero(~record.ignore)
    free = np.ones(len(wanted), bool)
    strong = np.flatnonzero(found.scores >= score_threshold)
    strong = strong[np.argsort(-found.scores[strong], kind="stable")]
    iou = pairwise_iou(found.boxes[strong], record.boxes[wanted])
    inside = pairwise_ioa(found.boxes[strong], record.boxes[record.ignore])
    for row, d in enumerate(strong):
        of_free = np.where(free, iou[row], -1)
        if len(wanted) and of_free.max() >= iou_threshold:
            best = int(of_free.argmax())
            free[best] = False
            counts[record.labels[wanted[best]], found.labels[d]] += 1
        elif not (inside[row] >= iou_threshold).any():
            counts[num_classes, found.labels[d]] += 1
    counts[:-1, -1] = np.bincount(record.labels[wanted[free]], minlength=num_classes)
    return counts
