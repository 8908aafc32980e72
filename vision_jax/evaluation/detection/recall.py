"""Recall of objects by boxes of any class, the measure of proposals (Hosang et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import DetectionSource
from vision_jax.evaluation.detection.coco_protocol import IOUS
from vision_jax.evaluation.detection.collect import CollectedDetections
from vision_jax.evaluation.detection.iou import pairwise_iou
from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import Ratios
from vision_jax.evaluation.tables import markdown_table, ratio, score
from vision_jax.types import DetectionBatch, Detections, Report


class RecallEvaluator:
    """Recall of one pass over a split, without regard to classes and scores.

    An object is found at an IoU threshold if its largest IoU with any box reaches it; a box may find several
    objects. Ignored objects are not wanted.

    Metrics, 0..1, NaN without objects: `recall`, the mean over IoU 0.50:0.05:0.95, and `recall50` and
    `recall75`, at one IoU. per_image_recall.npz keeps what each image contributes to them (see
    `read_per_image`).
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
        """The metrics, `recall.md` by IoU, and `per_image_recall.npz`."""
        ids, objects, covered = [], [], []
        for record, found in self._collected:
            truth = record.boxes[~record.ignore]
            best = pairwise_iou(truth, found.boxes).max(axis=1, initial=0.0) if len(truth) else np.zeros(0)
            ids.append(record.id)
            objects.append(len(best))
            covered.append([int((best >= iou - 1e-9).sum()) for iou in IOUS])
        wanted = np.array(objects, np.float64)
        counts = np.array(covered, np.float64).reshape(-1, len(IOUS))
        recalls = [ratio(int(count), int(wanted.sum())) for count in counts.sum(axis=0)]
        metrics = {"recall": float(np.mean(recalls)), "recall50": recalls[0], "recall75": recalls[5]}
        rows = [[f"{iou:.2f}", score(value)] for iou, value in zip(IOUS, recalls, strict=True)]
        table = markdown_table(["IoU", "objects covered"], [*rows, ["**mean**", score(metrics["recall"])]])
        parts = {"recall": counts.mean(axis=1), "recall50": counts[:, 0], "recall75": counts[:, 5]}
        kept = PerImage(np.array(ids, np.int64), (Ratios(parts, dict.fromkeys(parts, wanted)),))
        return Report(
            metrics,
            {"recall.md": f"{table}\n\nBy any box, whatever its class; {int(wanted.sum())} objects."},
            {"per_image_recall.npz": kept.write},
        )
