"""COCO's average precision of boxes, against the source's own records in original pixels."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import DetectionSource
from vision_jax.evaluation import figures
from vision_jax.evaluation.detection.coco_protocol import STANDARD_LIMIT, CocoScores, coco_scores
from vision_jax.evaluation.detection.collect import CollectedDetections
from vision_jax.evaluation.detection.confusion import detection_confusion
from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.evaluation.per_image.kinds import CocoMatches
from vision_jax.evaluation.tables import confusion_table, markdown_table, score
from vision_jax.types import DetectionBatch, Detections, Report

# A column of the table of classes: its title, whose scores, at which IoU (None: the mean of all).
Column = tuple[str, CocoScores, float | None]


class CocoEvaluator:
    """COCO AP of one pass over a split.

    Metrics, 0..1, NaN without truth: `AP`, `AP50`, `AP75`, `AP/small`, `AP/medium`, `AP/large`, `AR/1`,
    `AR/10`, `AR/100`. COCO counts at most 100 detections for an image and class, and so do these, so
    that they compare with published figures. A model that may return more than 100 an image also gets
    `AP@all`, which counts every one, and a warning where any was left out.

    Crowds and difficult objects (`ignore`) are COCO's `iscrowd`: neither wanted nor counted as wrong,
    and any number of detections may lie in one. Images without predictions count as images in which
    nothing was found.

    per_image.npz keeps what each image contributed to all of these but `AP@all` (see `read_per_image`).
    """

    def __init__(
        self,
        records: Sequence[DetectionRecord] | DetectionSource,
        classes: Sequence[str],
        category_ids: Sequence[int] | None = None,
    ):
        """Prepares to evaluate a split.

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
        """The metrics; `per_class_ap.md`, `confusion_matrix.md`/.png, `pr_curve.png`, `predictions.json`,
        `per_image.npz`."""
        results = self._results()
        scores = coco_scores(self._records, results, len(self.classes))
        columns = (("AP", scores, None), ("AP50", scores, 0.5), ("AP75", scores, 0.75))
        return self._report(results, scores, columns)

    @property
    def _records(self) -> list[DetectionRecord]:
        return list(self._collected.records.values())

    def _report(
        self,
        results: list[dict[str, Any]],
        scores: CocoScores,
        columns: Sequence[Column],
        notes: Sequence[str] = (),
    ) -> Report:
        """The report on boxes.

        Args:
            results: see `_results`.
            scores: of the boxes.
            columns: of the table of classes.
            notes: lines below the table, before the report's own.
        """
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
        true, predicted = (*self.classes, "background"), (*self.classes, "missed")
        note = "Objects and detections with a score of at least 0.5, matched at IoU 0.5 whatever their class."
        return Report(
            metrics,
            {
                "per_class_ap.md": "\n".join(
                    [self._per_class(columns), *notes, *self._notes(scores, metrics, len(results))]
                ),
                "confusion_matrix.md": confusion_table(confusion, true, predicted) + f"\n\n{note}",
            },
            {
                "predictions.json": lambda path: self._write_predictions(path, results),
                "per_image.npz": lambda path: self._write_per_image(path, {"box": scores}),
                "pr_curve.png": lambda path: figures.write_pr_curves(path, scores.precision, self.classes),
                "confusion_matrix.png": lambda path: figures.write_confusion(
                    path, confusion, true, predicted, "Score \u2265 0.5, matched at IoU 0.5", background=True
                ),
            },
        )

    def _results(self) -> list[dict[str, Any]]:
        """Detections in COCO's results format, best first in each image, with labels 1..K for category ids.

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
        path.write_text("[\n" + ",\n".join(json.dumps(r, default=bytes.decode) for r in named) + "\n]\n")

    def _write_per_image(self, path: Path, scores: Mapping[str, CocoScores]) -> None:
        """Keeps what each image contributed, by kind of IoU (see `CocoMatches`)."""
        matched = {measure: each.match() for measure, each in scores.items()}
        PerImage(np.array(list(self._collected.records), np.int64), (CocoMatches(matched),)).write(path)

    def _per_class(self, columns: Sequence[Column]) -> str:
        """The table of classes: each column's AP, objects wanted and ignored."""
        records = self._records
        wanted, ignored = self._count(~r.ignore for r in records), self._count(r.ignore for r in records)
        rows = [
            [
                name,
                *(score(scores.ap(iou, label=k)) for _, scores, iou in columns),
                *(str(n[k]) for n in (wanted, ignored)),
            ]
            for k, name in enumerate(self.classes)
        ]
        total = [score(scores.ap(iou)) for _, scores, iou in columns]
        rows.append(["**mean**", *total, str(wanted.sum()), str(ignored.sum())])
        return markdown_table(["class", *(name for name, _, _ in columns), "objects", "ignored"], rows)

    def _notes(self, scores: CocoScores, metrics: dict[str, float], detections: int) -> list[str]:
        counts = (
            f"{len(self._records)} images, {detections} detections; at most {STANDARD_LIMIT} count for an "
            "image and class, as COCO defines it."
        )
        if scores.limits[-1] > STANDARD_LIMIT:
            counts += (
                f" Some images have more (up to {scores.limits[-1]}): with all of them AP is "
                f"{score(scores.ap(limit=scores.limits[-1]))} (`AP@all`)."
            )
        if self._collected.missing:
            counts += f" {self._collected.missing} images came without predictions: nothing found there."
        return [
            "",
            f"Boxes by size: small {score(metrics['AP/small'])}, medium {score(metrics['AP/medium'])}, "
            f"large {score(metrics['AP/large'])}. Average recall with 1, 10, 100 detections: "
            f"{score(metrics['AR/1'])}, {score(metrics['AR/10'])}, {score(metrics['AR/100'])}.",
            "",
            counts,
        ]

    def _count(self, chosen: Iterable[Bool[np.ndarray, " n"]]) -> Int[np.ndarray, " k"]:
        """How many objects of each of K classes are chosen; a mask [n] for each record."""
        labels = [r.labels[mask] for r, mask in zip(self._records, chosen, strict=True)]
        return np.bincount(np.concatenate([np.zeros(0, int), *labels]), minlength=len(self.classes))
