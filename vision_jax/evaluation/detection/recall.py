"""Recall of objects by boxes of any class, the measure of proposals (Hosang et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import DetectionSource
from vision_jax.evaluation.detection.coco_protocol import IOUS
from vision_jax.evaluation.detection.collect import CollectedDetections
from vision_jax.evaluation.detection.iou import pairwise_iou
from vision_jax.evaluation.tables import markdown_table, ratio, score
from vision_jax.types import DetectionBatch, Detections, Report


class RecallEvaluator:
    """Recall of one pass over a split, without regard to classes and scores.

    An object is found at an IoU threshold if its largest IoU with any box reaches it; a box may find several
    objects. Ignored objects are not wanted.

    Metrics, 0..1, NaN without objects: `recall`, the mean over IoU 0.50:0.05:0.95, and `recall50` and
    `recall75`, at one IoU.
    """

    def __init__(self, records: Sequence[DetectionRecord] | DetectionSource):
        """Prepares to evaluate a split.

        Args:
            records: the truth: every record of the split, or its source.
        """
        self._collected = CollectedDetections(records)

    def add(self, batch: DetectionBatch, detections: Detections) -> None:
        """Takes one batch and what was detected in it."""
        self._collected.add(batch, detections)

    def report(self) -> Report:
        """The metrics and `recall.md`, by IoU."""
        covered = []
        for record, found in self._collected:
            truth = record.boxes[~record.ignore]
            if len(truth):
                covered.append(pairwise_iou(truth, found.boxes).max(axis=1, initial=0.0))
        best = np.concatenate(covered) if covered else np.zeros(0)
        recalls = [ratio(int((best >= iou - 1e-9).sum()), len(best)) for iou in IOUS]
        metrics = {"recall": float(np.mean(recalls)), "recall50": recalls[0], "recall75": recalls[5]}
        rows = [[f"{iou:.2f}", score(value)] for iou, value in zip(IOUS, recalls, strict=True)]
        table = markdown_table(["IoU", "objects covered"], [*rows, ["**mean**", score(metrics["recall"])]])
        return Report(
            metrics, {"recall.md": f"{table}\n\nBy any box, whatever its class; {len(best)} objects."}
        )
