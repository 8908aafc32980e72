"""COCO's average precision of instance masks, and boundary AP, beside that of their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import InstanceSource
from vision_jax.evaluation.detection.coco import CocoEvaluator
from vision_jax.evaluation.detection.coco_protocol import CocoScores, coco_scores
from vision_jax.evaluation.detection.collect import best_first
from vision_jax.evaluation.detection.mask_iou import (
    Rle,
    encode_mask,
    encode_shape,
    encode_window,
    mask_and_boundary_iou,
    mask_areas,
)
from vision_jax.evaluation.tables import score
from vision_jax.ops.masks import paste_window
from vision_jax.types import InstanceBatch, Instances, Report, instances_to_original


class CocoInstanceEvaluator(CocoEvaluator):
    """COCO AP of boxes, of masks and of the masks' boundaries, of one pass over a split.

    Metrics: those of `CocoEvaluator` for boxes; `mask/AP`, `mask/AP50`, `mask/AP75`, `mask/AP/small`,
    `mask/AP/medium`, `mask/AP/large`; `boundary/AP`, `boundary/AP50`, `boundary/AP75` (Cheng et al. 2021),
    of which the IoU of two masks is the lesser of mask IoU and boundary IoU.

    Masks are compared in the original image's pixels: predicted ones are pasted there at once and kept as run
    lengths; the truth is as COCO's own tools rasterize it where the source has `segmentations`, else its
    `masks`. As in COCO's protocol, an object's range of area is that of its record's `area`, an unmatched
    mask's that of its pixels. An object whose shape is not known is wanted by box AP alone: for the masks its
    box is an ignored region, in which any number of predictions may lie.

    predictions.json has each object's box and mask. (pycocotools goes by the boxes' areas where a file has
    both: drop its `bbox` entries to get the masks' figures by size.) per_image.npz keeps what each image
    contributed to all of these but `AP@all`.
    """

    def __init__(
        self, source: InstanceSource, classes: Sequence[str], category_ids: Sequence[int] | None = None
    ):
        """Prepares to evaluate a split.

        Args:
            source: the truth.
            classes: K names.
            category_ids: the id of each class in predictions.json; 1..K if None.
        """
        super().__init__(source, classes, category_ids)
        self._source = source
        self._masks: dict[int, list[Rle]] = {}

    def add(self, batch: InstanceBatch, instances: Instances) -> None:
        """Takes one batch and what was found in it."""
        super().add(batch, instances)
        for found in instances_to_original(batch, instances):
            record = self._collected.records[found.id]
            size = record.height, record.width
            masks = []
            for i in best_first(found.scores):
                values, corner = paste_window(found.masks[i], found.boxes[i], size)
                masks.append(encode_window(values > 0.5, corner, size))
            self._masks[found.id] = masks

    def report(self) -> Report:
        """As `CocoEvaluator.report`, with masks in the metrics, per_class_ap.md, predictions.json and
        per_image.npz."""
        results = self._results()
        boxes = coco_scores(self._records, results, len(self.classes))
        masks, boundaries, unknown = self._score_masks(results)
        metrics = {
            "mask/AP": masks.ap(),
            "mask/AP50": masks.ap(0.5),
            "mask/AP75": masks.ap(0.75),
            "mask/AP/small": masks.ap(area="small"),
            "mask/AP/medium": masks.ap(area="medium"),
            "mask/AP/large": masks.ap(area="large"),
            "boundary/AP": boundaries.ap(),
            "boundary/AP50": boundaries.ap(0.5),
            "boundary/AP75": boundaries.ap(0.75),
        }
        columns = (
            ("box AP", boxes, None),
            ("mask AP", masks, None),
            ("mask AP50", masks, 0.5),
            ("boundary AP", boundaries, None),
        )
        by_size = ", ".join(f"{area} {score(masks.ap(area=area))}" for area in ("small", "medium", "large"))
        notes = ["", f"Masks by size: {by_size}."]
        if unknown:
            notes[-1] += f" {unknown} objects have no known shape: they count for boxes alone."
        report = self._report(results, boxes, columns, notes)
        measures = {"box": boxes, "mask": masks, "boundary": boundaries}
        per_image = {"per_image.npz": lambda path: self._write_per_image(path, measures)}
        return replace(report, metrics={**report.metrics, **metrics}, files={**report.files, **per_image})

    def _results(self) -> list[dict[str, Any]]:
        """As `CocoEvaluator._results`, each with its mask as run lengths, `segmentation`."""
        masks = [mask for id in self._collected.records for mask in self._masks.get(id, ())]
        return [
            {**result, "segmentation": mask} for result, mask in zip(super()._results(), masks, strict=True)
        ]

    def _score_masks(self, results: list[dict[str, Any]]) -> tuple[CocoScores, CocoScores, int]:
        """Scores of masks and of boundaries, and how many wanted objects have no known shape."""
        records, unknown = [], 0
        mask_ious: dict[tuple[int, int], np.ndarray] = {}
        boundary_ious: dict[tuple[int, int], np.ndarray] = {}
        for index, (record, found) in enumerate(self._collected):
            truth = self._shapes(index, record)
            missing = np.array([shape is None for shape in truth], bool)
            unknown += int((missing & ~record.ignore).sum())
            record = replace(record, ignore=record.ignore | missing)
            records.append(record)
            for label in np.intersect1d(record.labels, found.labels).tolist():
                mine, objects = np.flatnonzero(found.labels == label), np.flatnonzero(record.labels == label)
                mask_ious[record.id, label], boundary_ious[record.id, label] = mask_and_boundary_iou(
                    [self._masks[record.id][i] for i in mine],
                    [truth[i] or _filled_box(record, int(i)) for i in objects],
                    record.ignore[objects],
                )
        areas = mask_areas([result["segmentation"] for result in results])
        sized = [{**result, "area": area} for result, area in zip(results, areas, strict=True)]
        scores, boundary_scores = (
            coco_scores(records, sized, len(self.classes), each) for each in (mask_ious, boundary_ious)
        )
        return scores, boundary_scores, unknown

    def _shapes(self, index: int, record: DetectionRecord) -> list[Rle | None]:
        """The true mask of each of an image's objects, None where it is not known."""
        size = record.height, record.width
        segmentations = getattr(self._source, "segmentations", None)
        if segmentations is not None:
            return [encode_shape(shape, size) if shape else None for shape in segmentations(index)]
        return [encode_mask(mask) if mask.any() else None for mask in self._source.masks(index)]


def _filled_box(record: DetectionRecord, i: int) -> Rle:
    """The mask of the whole pixels that object i's box touches."""
    left, top = np.floor(record.boxes[i, :2]).astype(int).tolist()
    right, bottom = np.ceil(record.boxes[i, 2:]).astype(int).tolist()
    return encode_window(
        np.ones((bottom - top, right - left), bool), (top, left), (record.height, record.width)
    )
