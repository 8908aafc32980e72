"""One image with what is known of it, on its way through the transforms: a struct of fields, ragged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.fields.field import Size
from vision_jax.data.fields.image import Image
from vision_jax.data.fields.label_map import LabelMap
from vision_jax.data.fields.masks import MaskedObjects, Masks
from vision_jax.data.fields.objects import Objects


@dataclass(frozen=True)
class ImageExample:
    """An image; a task family adds what is known of it.

    What is a `Field` moves with the pixels; anything else does not.

    Attributes:
        id: the record's id.
        image: as it is now.
        turns_canvas: whether the canvas is turned to the image's own orientation.
    """

    id: int
    image: Image
    turns_canvas: ClassVar[bool] = False

    @property
    def size(self) -> Size:
        """(height, width) of the image as it is now."""
        return self.image.size


@dataclass(frozen=True)
class ClassificationExample(ImageExample):
    """An image with its class.

    Attributes:
        label: 0..K-1, -1 where not known.
    """

    label: int

    @classmethod
    def unannotated(cls, id: int, pixels: UInt8[np.ndarray, "h w 3"]) -> ClassificationExample:
        """An image of which nothing is known."""
        return cls(id, Image.original(pixels), -1)


@dataclass(frozen=True)
class SegmentationExample(ImageExample):
    """An image with its label map."""

    label_map: LabelMap

    @classmethod
    def unannotated(cls, id: int, pixels: UInt8[np.ndarray, "h w 3"]) -> SegmentationExample:
        """An image whose labels are all void."""
        return cls(id, Image.original(pixels), LabelMap(np.full(pixels.shape[:2], -1, np.int32)))


@dataclass(frozen=True)
class DetectionExample(ImageExample):
    """An image with objects in boxes."""

    objects: Objects
    turns_canvas: ClassVar[bool] = True

    @classmethod
    def unannotated(cls, id: int, pixels: UInt8[np.ndarray, "h w 3"]) -> DetectionExample:
        """An image without objects."""
        return cls(id, Image.original(pixels), Objects.none())


@dataclass(frozen=True)
class InstanceExample(DetectionExample):
    """An image with objects in boxes and their masks."""

    objects: MaskedObjects

    @classmethod
    def unannotated(cls, id: int, pixels: UInt8[np.ndarray, "h w 3"], size: int = 112) -> InstanceExample:
        """An image without objects, whose masks would be crops of `size` cells along each side."""
        return cls(id, Image.original(pixels), MaskedObjects.none(masks=Masks.none(size)))
