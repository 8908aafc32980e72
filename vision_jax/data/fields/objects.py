"""Objects in boxes, with whatever else is known of each of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from vision_jax.data.fields.boxes import (
    box_areas,
    crop_boxes,
    flip_boxes_horizontal,
    flip_boxes_vertical,
    resize_boxes,
)
from vision_jax.data.fields.field import CropWindow, Field, Size, each_field
from vision_jax.types import UserError

AnyObjects = TypeVar("AnyObjects", bound="Objects")


class PerObject(Field):
    """A field with one entry for each of an image's objects, in their order, along the first axis."""

    @abstractmethod
    def select(self, keep: Bool[np.ndarray, " n"]) -> PerObject:
        """The entries of the objects that are kept."""


@dataclass(frozen=True)
class Objects(Field):
    """The objects in an image.

    A struct that derives from it may have further fields, each a `PerObject`: they move along, and lose the
    entries of the objects that a crop drops.

    Attributes:
        boxes: float32, (x1, y1, x2, y2) in pixels of the image as it is now, x2 and y2 exclusive.
        labels: int32, 0..K-1.
        ignore: crowds and difficult objects: neither wanted nor counted as wrong.
    """

    boxes: Float[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    ignore: Bool[np.ndarray, " n"]

    @classmethod
    def none(cls: type[AnyObjects], **more: PerObject) -> AnyObjects:
        """No object; `more` are the further fields, without entries."""
        labels = np.zeros(0, np.int32)
        return cls(np.zeros((0, 4), np.float32), labels, labels.astype(bool), **more)

    def __len__(self) -> int:
        return len(self.boxes)

    def flip_horizontal(self, size: Size) -> Objects:
        """Mirrors left and right."""
        moved = each_field(self, lambda field: field.flip_horizontal(size))
        return replace(moved, boxes=flip_boxes_horizontal(self.boxes, size))

    def flip_vertical(self, size: Size) -> Objects:
        """Mirrors top and bottom."""
        moved = each_field(self, lambda field: field.flip_vertical(size))
        return replace(moved, boxes=flip_boxes_vertical(self.boxes, size))

    def resize(self, old: Size, new: Size) -> Objects:
        """Coordinates times the exact ratios."""
        moved = each_field(self, lambda field: field.resize(old, new))
        return replace(moved, boxes=resize_boxes(self.boxes, old, new))

    def crop(self, window: CropWindow) -> Objects:
        """Boxes clipped to the window; an object is dropped when less than `min_visible` of its box is left.

        Ignored objects are kept while anything is left of them: what they cover must not become background.
        """
        boxes = crop_boxes(self.boxes, window)
        area = box_areas(boxes)
        wanted = np.where(self.ignore, 0.0, window.min_visible) * box_areas(self.boxes)
        keep = (area > 0) & (area >= wanted * (1 - 1e-6))
        moved = each_field(self, lambda field: field.select(keep).crop(window))
        return replace(moved, boxes=boxes[keep], labels=self.labels[keep], ignore=self.ignore[keep])

    @staticmethod
    def stack(
        objects: Sequence[Objects], ids: Sequence[int], max_objects: int, batch_size: int
    ) -> dict[str, Shaped[np.ndarray, "b n ..."]]:
        """Pads boxes, labels and flags; further fields stack themselves.

        Args:
            objects: of at most `batch_size` images.
            ids: of their examples, for messages.
            max_objects: N, objects an image, ignored ones included.
            batch_size: B; missing images have no object.

        Returns:
            `boxes` float32 [B, N, 4]; `labels` int32 [B, N], -1 where padded; bool [B, N] `valid`, objects to
            be found, and `ignore`.

        Raises:
            UserError: an image has more than `max_objects` objects; none is dropped silently.
        """
        shape = batch_size, max_objects
        arrays: dict[str, Any] = {
            "boxes": np.zeros((*shape, 4), np.float32),
            "labels": np.full(shape, -1, np.int32),
            "valid": np.zeros(shape, bool),
            "ignore": np.zeros(shape, bool),
        }
        for i, (one, id) in enumerate(zip(objects, ids, strict=True)):
            count = len(one)
            if count > max_objects:
                raise UserError(
                    f"image {id} has {count} boxes, more than max_objects={max_objects}: "
                    f"raise max_objects to {count} or more"
                )
            arrays["boxes"][i, :count] = one.boxes
            arrays["labels"][i, :count] = one.labels
            arrays["valid"][i, :count] = ~one.ignore
            arrays["ignore"][i, :count] = one.ignore
        return arrays
