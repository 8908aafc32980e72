"""COCO's protocol of average precision (Lin et al. 2014, as defined by the COCO API's `COCOeval`).

The matching and the averages over IoU 0.50:0.05:0.95, 101 recalls and three ranges of area are
computed by faster-coco-eval's C++, from boxes or from IoUs that the caller gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from vision_jax.data.records import DetectionRecord
from vision_jax.evaluation.detection.coco_matches import match_detections
from vision_jax.evaluation.per_image.average_precision import MatchedDetections

IOUS = np.arange(50, 100, 5) / 100
STANDARD_LIMIT = 100
_AREAS = ("all", "small", "medium", "large")


@dataclass(frozen=True)
class CocoScores:
    """What COCO's protocol measures, before any averaging; -1 where there is no truth.

    Attributes:
        precision: at IoU t, recall r (0, 0.01, ... 1), for class k, area range a (all, small, medium,
            large), with at most `limits[m]` detections for an image and class.
        recall: the largest reached, without the axis r.
        limits: ascending; 1, 10, 100, and the largest number met if that is more.
        match: gives each detection's matches, for `CocoMatches`; computed when called.
    """

    precision: Float[np.ndarray, "t r k a m"]
    recall: Float[np.ndarray, "t k a m"]
    limits: tuple[int, ...]
    match: Callable[[], MatchedDetections] = field(repr=False)

    def ap(
        self, iou: float | None = None, area: str = "all", label: int | None = None, limit: int = 100
    ) -> float:
        """Average precision, NaN where there is no truth.

        Args:
            iou: one of 0.5, 0.55, ... 0.95; None for their mean.
            area: all, small, medium or large.
            label: one class; None for the mean over classes with truth.
            limit: one of `limits`.
        """
        values = self.precision[:, :, :, _AREAS.index(area), self.limits.index(limit)]
        values = values if iou is None else values[np.isclose(IOUS, iou)]
        return _mean_where_defined(values if label is None else values[:, :, label])

    def ar(self, limit: int) -> float:
        """Average recall over IoUs and classes at a number of detections, NaN where there is no truth."""
        return _mean_where_defined(self.recall[:, :, 0, self.limits.index(limit)])


def _mean_where_defined(values: Float[np.ndarray, "*n"]) -> float:
    """The mean of all values but -1, which stand for no truth; NaN if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


def coco_scores(
    records: Sequence[DetectionRecord],
    results: Sequence[dict[str, Any]],
    num_classes: int,
    ious: Mapping[tuple[int, int], Float[np.ndarray, "_d _g"]] | None = None,
) -> CocoScores:
    """Runs COCO's protocol.

    Args:
        records: the truth.
        results: detections in COCO's results format, `category_id` being the label + 1; one with an `area`
            is sorted by that into the ranges, not by its box's.
        num_classes: K.
        ious: by image id and label, the IoU of each detection (best first) with each object (in the record's
            order); an image and label without detections or objects may be left out. None: that of boxes.

    Returns:
        Precision and recall by IoU, class, area range and number of detections.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    categories = [{"id": k + 1, "name": str(k)} for k in range(num_classes)]
    images = [{"id": r.id, "height": r.height, "width": r.width} for r in records]
    truth: list[dict[str, Any]] = []
    for record in records:
        boxes = record.boxes.astype(np.float64)
        # Rounded to the widths in the file, so that an IoU at a threshold compares as COCO's does.
        boxes[:, 2:] = (boxes[:, 2:] - boxes[:, :2]).round(9)
        for box, label, ignore, area in zip(boxes, record.labels, record.ignore, record.area, strict=True):
            truth.append(
                {
                    "id": len(truth) + 1,  # COCOeval takes an id of 0 for "not matched"
                    "image_id": record.id,
                    "category_id": int(label) + 1,
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": int(ignore),
                }
            )
    found = [
        {"area": r["bbox"][2] * r["bbox"][3], **r, "id": i + 1, "iscrowd": 0} for i, r in enumerate(results)
    ]
    most = max(Counter((r["image_id"], r["category_id"]) for r in results).values(), default=0)
    limits = (1, 10, STANDARD_LIMIT) + ((most,) if most > STANDARD_LIMIT else ())

    def indexed(annotations: list[dict[str, Any]]) -> COCO:
        """A data set in COCO's format."""
        split = COCO()
        split.dataset = {"images": images, "annotations": annotations, "categories": categories}
        split.createIndex()
        return split

    protocol = COCOeval_faster(indexed(truth), indexed(found), "bbox", print_function=lambda *_: None)
    protocol.params.maxDets = list(limits)

    def match() -> MatchedDetections:
        """The same matches as the C++ found, by `match_detections`."""
        params = protocol.params
        areas, thresholds = np.array(params.areaRng, np.float64), np.asarray(params.iouThrs)
        measured = {(int(id), int(k) - 1): each for (id, k), each in protocol.ious.items() if len(each)}
        return match_detections(records, found, num_classes, measured, areas, thresholds, STANDARD_LIMIT)

    if not truth:
        shape = (len(IOUS), 101, num_classes, len(_AREAS), len(limits))
        return CocoScores(np.full(shape, -1.0), np.full((shape[0], *shape[2:]), -1.0), limits, match)
    if ious is not None:
        protocol.computeIoU = lambda imgId, catId: ious.get((int(imgId), int(catId) - 1), [])
    protocol.evaluate()
    protocol.accumulate()
    precision, recall = (np.asarray(protocol.eval[name]) for name in ("precision", "recall"))
    return CocoScores(precision, recall, limits, match)
