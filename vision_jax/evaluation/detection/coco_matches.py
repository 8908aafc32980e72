"""Which detection finds which object, as COCO's protocol (`COCOeval.evaluateImg`) decides it.

faster-coco-eval matches in C++ and keeps only the averages; here is what they are made of. The best-scored
detection chooses first: of the objects of its image and class that are free and reach the IoU threshold, the
one of the largest IoU, wanted objects before ignored ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vision_jax.data.records import DetectionRecord
from vision_jax.evaluation.per_image.average_precision import MatchedDetections


def match_in_image(
    iou: Float[np.ndarray, "d g"],
    crowd: Bool[np.ndarray, " g"],
    ignored: Bool[np.ndarray, "a g"],
    thresholds: Float[np.ndarray, " t"],
) -> tuple[Bool[np.ndarray, "d a t"], Bool[np.ndarray, "d a t"]]:
    """Matches one image's detections of one class, in all ranges of area and at all thresholds at once.

    Args:
        iou: of each detection, best first, with each object, 0..1; with a crowd, the intersection over the
            detection's area.
        crowd: objects in which any number of detections may lie.
        ignored: objects that need not be found, by range of area; crowds are among them.
        thresholds: the least IoUs, ascending.

    Returns:
        Which detections found a wanted object, and which an ignored one.
    """
    found = np.zeros((2, len(iou), len(ignored), len(thresholds)), bool)
    if not iou.size:
        return found[0], found[1]
    free = np.ones((*found.shape[2:], len(crowd)), bool)
    area, threshold = np.ogrid[: len(ignored), : len(thresholds)]
    for d in np.flatnonzero(iou.max(axis=1) >= thresholds[0]):
        # Of equal IoUs the later object wins; any wanted object wins over any ignored one.
        preference = np.empty(len(crowd), int)
        preference[np.argsort(iou[d], kind="stable")] = np.arange(len(crowd))
        preference = preference + len(crowd) * ~ignored
        eligible = free & (iou[d] >= thresholds[:, None])
        best = np.where(eligible, preference[:, None], -1).argmax(axis=-1)
        hit = eligible.any(axis=-1)
        free[area, threshold, best] &= ~hit | crowd[best]
        found[:, d] = hit & ~ignored[area, best], hit & ignored[area, best]
    return found[0], found[1]


def match_detections(
    records: Sequence[DetectionRecord],
    results: Sequence[dict[str, Any]],
    num_classes: int,
    ious: Mapping[tuple[int, int], Float[np.ndarray, "_d _g"]],
    areas: Float[np.ndarray, "a 2"],
    thresholds: Float[np.ndarray, " t"],
    limit: int,
) -> MatchedDetections:
    """Matches every detection of a split by COCO's protocol.

    Args:
        records: the truth.
        results: detections in COCO's results format, each with its `area`; `category_id` is the label + 1.
        num_classes: K.
        ious: by image id and label, the IoU of each detection (best first) with each object, as
            `match_in_image` takes it; an image and label without detections or objects may be left out.
        areas: the least and the largest area in each range, square pixels.
        thresholds: the least IoUs, ascending.
        limit: so many detections, the best, count for an image and class.

    Returns:
        The detections within the limit; images count by their positions in `records`, and of detections
        with equal scores those of the lower image id come first.
    """
    position = {record.id: i for i, record in enumerate(records)}
    image = np.array([position[r["image_id"]] for r in results], np.int32)
    id = np.array([r["image_id"] for r in results], np.int64)
    label = np.array([r["category_id"] - 1 for r in results], np.int32)
    score, area = (np.array([r[name] for r in results], np.float64) for name in ("score", "area"))
    right = np.zeros((len(results), len(areas), len(thresholds)), bool)
    wrong, kept = right.copy(), np.zeros(len(results), bool)

    def outside(area: Float[np.ndarray, " n"]) -> Bool[np.ndarray, "a n"]:
        """Whether areas lie outside each range."""
        return (area < areas[:, :1]) | (area > areas[:, 1:])

    wanted = np.zeros((len(areas), len(records), num_classes), np.int32)
    ignored = [record.ignore | outside(record.area.astype(np.float64)) for record in records]
    for i, record in enumerate(records):
        for a in range(len(areas)):
            wanted[a, i] = np.bincount(record.labels[~ignored[i][a]], minlength=num_classes)

    groups = np.lexsort((-score, image, label))
    changes = (np.diff(image[groups]) != 0) | (np.diff(label[groups]) != 0)
    for group in np.split(groups, np.flatnonzero(changes) + 1) if len(groups) else ():
        best = group[:limit]
        i, k = int(image[best[0]]), int(label[best[0]])
        mine = records[i].labels == k
        iou = ious.get((records[i].id, k), np.zeros((len(best), int(mine.sum()))))[: len(best)]
        hit, hit_ignored = match_in_image(iou, records[i].ignore[mine], ignored[i][:, mine], thresholds)
        kept[best], right[best] = True, hit
        wrong[best] = ~hit & ~hit_ignored & ~outside(area[best]).T[:, :, None]
    order = np.lexsort((id, -score, label))
    order = order[kept[order]]
    # Rounded to 8 digits, scores that differ still do in float32, and equal ones stay equal.
    return MatchedDetections(
        label[order],
        image[order],
        score[order].astype(np.float32),
        right[order],
        (right | wrong)[order],
        wanted,
    )
