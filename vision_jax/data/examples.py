"""One image with what is known of it, on its way through the transforms: numpy, ragged.

An instance's mask is a picture with a frame, as in a batch (`vision_jax.types.instance`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class ClassificationExample:
    """One labeled image on its way through the transforms."""

    id: int
    image: UInt8[np.ndarray, "h w 3"]
    label: int


@dataclass(frozen=True)
class DetectionExample:
    """One image on its way through the transforms: numpy, ragged, pixels of `image` as it is now.

    Attributes:
        id: the record's id.
        image: uint8 [h, w, 3].
        boxes: float32, as in the record, in pixels of `image`.
        labels, ignore: as in the record.
        original_size: (height, width) of the original image.
        scale: (x, y), pixels of `image` per original pixel; meaningful when only resized.
    """

    id: int
    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    ignore: Bool[np.ndarray, " n"]
    original_size: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class SegmentationExample:
    """One image and its label map on their way through the transforms."""

    id: int
    image: UInt8[np.ndarray, "h w 3"]
    labels: Int[np.ndarray, "h w"]
    original_size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class InstanceExample(DetectionExample):
    """One image with masks on its way through the transforms.

    Attributes:
        masks: uint8, each object's coverage of the cells of its frame, 0 (none) to 255 (all).
        frames: float32, (x1, y1, x2, y2) in pixels of `image` as it is now, inside it or not.
        full: whether the masks are full bitmaps, which a batch renders on its canvas, instead of crops, which
            it takes as they are.
    """

    masks: UInt8[np.ndarray, "n mh mw"]
    frames: Float[np.ndarray, "n 4"]
    full: bool = False
