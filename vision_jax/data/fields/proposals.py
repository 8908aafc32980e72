"""Proposals that were computed before: by selective search, or by another model (Fast R-CNN's input)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped

from vision_jax.data.fields.boxes import (
    box_areas,
    crop_boxes,
    flip_boxes_horizontal,
    flip_boxes_vertical,
    resize_boxes,
)
from vision_jax.data.fields.field import CropWindow, Field, Size


@dataclass(frozen=True)
class PrecomputedProposals(Field):
    """Boxes that may hold an object, best first; a crop drops none of them.

    Attributes:
        boxes: float32, (x1, y1, x2, y2) in pixels of the image as it is now, x2 and y2 exclusive.
        scores: float32.
        valid: which still lie in the image.
    """

    boxes: Float[np.ndarray, "r 4"]
    scores: Float[np.ndarray, " r"]
    valid: Bool[np.ndarray, " r"]

    def flip_horizontal(self, size: Size) -> PrecomputedProposals:
        """Mirrors left and right."""
        return replace(self, boxes=flip_boxes_horizontal(self.boxes, size))

    def flip_vertical(self, size: Size) -> PrecomputedProposals:
        """Mirrors top and bottom."""
        return replace(self, boxes=flip_boxes_vertical(self.boxes, size))

    def resize(self, old: Size, new: Size) -> PrecomputedProposals:
        """Coordinates times the exact ratios."""
        return replace(self, boxes=resize_boxes(self.boxes, old, new))

    def crop(self, window: CropWindow) -> PrecomputedProposals:
        """Boxes clipped to the window; those outside it stay in their order, empty and no longer valid."""
        boxes = crop_boxes(self.boxes, window)
        return replace(self, boxes=boxes, valid=self.valid & (box_areas(boxes) > 0))

    @staticmethod
    def stack(
        proposals: Sequence[PrecomputedProposals], count: int, batch_size: int
    ) -> dict[str, Shaped[np.ndarray, "b r ..."]]:
        """Takes the first proposals of each image, and pads.

        Args:
            proposals: of at most `batch_size` images.
            count: R, proposals an image; worse ones are left out.
            batch_size: B.

        Returns:
            The fields of `vision_jax.types.Proposals` by name; 0 and not valid where padded.
        """
        boxes = np.zeros((batch_size, count, 4), np.float32)
        scores = np.zeros((batch_size, count), np.float32)
        valid = np.zeros((batch_size, count), bool)
        for i, one in enumerate(proposals):
            kept = min(count, len(one.boxes))
            boxes[i, :kept] = one.boxes[:kept]
            scores[i, :kept] = one.scores[:kept]
            valid[i, :kept] = one.valid[:kept]
        return {"boxes": boxes, "scores": scores, "valid": valid}
