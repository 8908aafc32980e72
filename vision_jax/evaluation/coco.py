"""COCO's average precision (Lin et al. 2014; the definition is that of the COCO API's `COCOeval`).

The matching and the averages over IoU 0.50:0.05:0.95, 101 recalls and three ranges of area are
computed by faster-coco-eval's C++; the truth is the source's own records, in original pixels.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vision_jax.evaluation import figures
from vision_jax.evaluation.collect import CollectedDetections
from vision_jax.evaluation.confusion import detection_confusion
from vision_jax.evaluation.tables import confusion_table, markdown_table, score
from vision_jax.types import DetectionBatch, DetectionRecord, Detections, DetectionSource, Report

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
    """

    precision: Float[np.ndarray, "t r k a m"]
    recall: Float[np.ndarray, "t k a m"]
    limits: tuple[int, ...]

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


def _mean_where_defined(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")


class CocoEvaluator:
    """COCO AP of one pass over a split.

    Metrics, 0..1, NaN without truth: `AP`, `AP50`, `AP75`, `AP/small`, `AP/medium`, `AP/large`, `AR/1`,
    `AR/10`, `AR/100`. COCO counts at most 100 detections for an image and class, and so do these, so
    that they compare with published figures. A model that may return more than 100 an image also gets
    `AP@all`, which counts every one, and a warning where any was left out.

    Crowds and difficult objects (`ignore`) are COCO's `iscrowd`: neither wanted nor counted as wrong,
    and any number of detections may lie in one. Images without predictions count as images in which
    nothing was found.
    """

    def __init__(
        self,
        records: Sequence[DetectionRecord] | DetectionSource,
        classes: Sequence[str],
        category_ids: Sequence[int] | None = None,
    ):
        """Prepares to judge a split.

        Args:
            records: the truth: every record of the split, or its source.
            classes: K names.
            category_ids: the id of each class in predictions.json; 1..K if None.
        """
        self.classes = tuple(classes)
        ids = range(1, len(self.classes) + 1) if category_ids is None else category_ids
        self.category_ids = tuple(int(i) for i in ids)
        if len(self.category_ids) != len(self.classes):
            raise ValueError(f"{len(self.category_ids)} category ids for {len(self.classes)} classes")
        self._collected = CollectedDetections(records)

    def add(self, batch: DetectionBatch, detections: Detections) -> None:
        """Takes one batch and what was detected in it."""
        self._collected.add(batch, detections)

    def report(self) -> Report:
        """The metrics; `per_class_ap.md`, `confusion_matrix.md`/.png, `pr_curve.png`, `predictions.json`."""
        results = self._results()
        scores = coco_scores(list(self._collected.records.values()), results, len(self.classes))
        metrics = {
            "AP": scores.ap(),
            "AP50": scores.ap(0.5),
            "AP75": scores.ap(0.75),
            "AP/small": scores.ap(area="small"),
            "AP/medium": scores.ap(area="medium"),
            "AP/large": scores.ap(area="large"),
            "AR/1": scores.ar(1),
            "AR/10": scores.ar(10),
            "AR/100": scores.ar(100),
        }
        if self._collected.slots > STANDARD_LIMIT:
            metrics["AP@all"] = scores.ap(limit=scores.limits[-1])
        if scores.limits[-1] > STANDARD_LIMIT:
            warnings.warn(
                f"up to {scores.limits[-1]} detections of a class in one image: COCO's AP counts the best "
                f"{STANDARD_LIMIT}; AP@all counts them all",
                stacklevel=2,
            )
        confusion = np.sum(
            [detection_confusion(*pair, num_classes=len(self.classes)) for pair in self._collected]
            or [np.zeros((len(self.classes) + 1,) * 2, np.int64)],
            axis=0,
        )
        rows, columns = (*self.classes, "background"), (*self.classes, "missed")
        note = "Objects and detections with a score of at least 0.5, matched at IoU 0.5 whatever their class."
        return Report(
            metrics,
            {
                "per_class_ap.md": self._per_class(scores, metrics, len(results)),
                "confusion_matrix.md": confusion_table(confusion, rows, columns) + f"\n\n{note}",
            },
            {
                "predictions.json": lambda path: self._write_predictions(path, results),
                "pr_curve.png": lambda path: figures.write_pr_curves(path, scores.precision, self.classes),
                "confusion_matrix.png": lambda path: figures.write_confusion(
                    path, confusion, rows, columns, "Score \u2265 0.5, matched at IoU 0.5", background=True
                ),
            },
        )

    def _results(self) -> list[dict[str, Any]]:
        """Detections in COCO's results format, with labels 1..K for category ids.

        Rounded as they are written, so that predictions.json gives these very figures.
        """
        results = []
        for record, found in self._collected:
            boxes = found.boxes.astype(np.float64)
            boxes[:, 2:] -= boxes[:, :2]
            for box, confidence, label in zip(boxes.round(3), found.scores, found.labels, strict=True):
                results.append(
                    {
                        "image_id": record.id,
                        "category_id": int(label) + 1,
                        "bbox": box.tolist(),
                        "score": round(float(confidence), 8),
                    }
                )
        return results

    def _write_predictions(self, path: Path, results: list[dict[str, Any]]) -> None:
        named = [{**r, "category_id": self.category_ids[r["category_id"] - 1]} for r in results]
        path.write_text("[\n" + ",\n".join(json.dumps(r) for r in named) + "\n]\n")

    def _per_class(self, scores: CocoScores, metrics: dict[str, float], detections: int) -> str:
        records = self._collected.records.values()
        wanted, ignored = self._count(~r.ignore for r in records), self._count(r.ignore for r in records)
        rows = [
            [
                name,
                *(score(scores.ap(iou, label=k)) for iou in (None, 0.5, 0.75)),
                *(str(n[k]) for n in (wanted, ignored)),
            ]
            for k, name in enumerate(self.classes)
        ]
        total = [score(metrics[name]) for name in ("AP", "AP50", "AP75")]
        rows.append(["**mean**", *total, str(wanted.sum()), str(ignored.sum())])
        lines = [
            markdown_table(["class", "AP", "AP50", "AP75", "objects", "ignored"], rows),
            "",
            f"By size: small {score(metrics['AP/small'])}, medium {score(metrics['AP/medium'])}, "
            f"large {score(metrics['AP/large'])}. Average recall with 1, 10, 100 detections: "
            f"{score(metrics['AR/1'])}, {score(metrics['AR/10'])}, {score(metrics['AR/100'])}.",
            "",
            f"{len(records)} images, {detections} detections; at most {STANDARD_LIMIT} count for an image "
            "and class, as COCO defines it.",
        ]
        if scores.limits[-1] > STANDARD_LIMIT:
            lines[-1] += (
                f" Some images have more (up to {scores.limits[-1]}): with all of them AP is "
                f"{score(scores.ap(limit=scores.limits[-1]))} (`AP@all`)."
            )
        if self._collected.missing:
            lines[-1] += f" {self._collected.missing} images came without predictions: nothing found there."
        return "\n".join(lines)

    def _count(self, masks) -> Int[np.ndarray, " k"]:
        records = self._collected.records.values()
        labels = [r.labels[mask] for r, mask in zip(records, masks, strict=True)]
        return np.bincount(np.concatenate([np.zeros(0, int), *labels]), minlength=len(self.classes))


def coco_scores(
    records: Sequence[DetectionRecord], results: Sequence[dict[str, Any]], num_classes: int
) -> CocoScores:
    """Runs COCO's protocol.

    Args:
        records: the truth.
        results: detections in COCO's results format, `category_id` being the label + 1.
        num_classes: K.

    Returns:
        Precision and recall by IoU, class, area range and number of detections.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    categories = [{"id": k + 1, "name": str(k)} for k in range(num_classes)]
    images = [{"id": r.id, "height": r.height, "width": r.width} for r in records]
    truth: list[dict[str, Any]] = []
    for record in records:
        boxes = record.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
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
        {**r, "id": i + 1, "area": r["bbox"][2] * r["bbox"][3], "iscrowd": 0} for i, r in enumerate(results)
    ]
    most = max(Counter((r["image_id"], r["category_id"]) for r in results).values(), default=0)
    limits = (1, 10, STANDARD_LIMIT) + ((most,) if most > STANDARD_LIMIT else ())
    if not truth:
        shape = (len(IOUS), 101, num_classes, len(_AREAS), len(limits))
        return CocoScores(np.full(shape, -1.0), np.full((shape[0], *shape[2:]), -1.0), limits)

    def indexed(annotations: list[dict[str, Any]]) -> COCO:
        split = COCO()
        split.dataset = {"images": images, "annotations": annotations, "categories": categories}
        split.createIndex()
        return split

    protocol = COCOeval_faster(indexed(truth), indexed(found), "bbox", print_function=lambda *_: None)
    protocol.params.maxDets = list(limits)
    protocol.evaluate()
    protocol.accumulate()
    return CocoScores(np.asarray(protocol.eval["precision"]), np.asarray(protocol.eval["recall"]), limits)
