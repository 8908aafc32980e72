"""Moving an example's pixels and, in step with them, its boxes, masks and label map: flips, resizing, crops.

Functions change one example and return a new one; the given one is never written to, the new one may hold
arrays of it.

Coordinates: a pixel's center is at +0.5, so pixel column `c` covers [c, c + 1). Resizing by a ratio
multiplies box coordinates by exactly that ratio, and a label map's new pixel takes the old pixel that its
center falls in. Of an object's mask only the frame moves (`vision_jax.types.instance`): however often an
image is resized and cut, its masks keep the resolution that they were read in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from vision_jax.data.examples import (
    ClassificationExample,
    DetectionExample,
    InstanceExample,
    SegmentationExample,
)

Canvas = tuple[int, int]
AnyExample = DetectionExample | SegmentationExample | ClassificationExample
Example = TypeVar("Example", bound=AnyExample)


def oriented(canvas: Canvas, height: int, width: int) -> Canvas:
    """Turns a canvas to an image's orientation, so that little of it is padding.

    Args:
        canvas: (height, width), in either orientation.
        height: of the image.
        width: of the image.

    Returns:
        (height, width): landscape for an image that is wider than high, portrait for one that is higher than
        wide, as it was given for a square one.
    """
    if height == width:
        return canvas
    short, long = min(canvas), max(canvas)
    return (short, long) if width > height else (long, short)


def target_canvas(example: AnyExample, canvas: Canvas) -> Canvas:
    """The canvas of an example, (height, width): for detection turned to the original's orientation."""
    if isinstance(example, DetectionExample):
        return oriented(canvas, *example.original_size)
    return canvas


def flip_horizontal(example: Example) -> Example:
    """Mirrors left and right."""
    changes: dict[str, Any] = {"image": cv2.flip(example.image, 1)}
    if isinstance(example, DetectionExample):
        width = example.image.shape[1]
        changes["boxes"] = _mirrored(example.boxes, width)
        if isinstance(example, InstanceExample):
            changes |= {"frames": _mirrored(example.frames, width), "masks": example.masks[:, :, ::-1]}
    elif isinstance(example, SegmentationExample):
        changes["labels"] = np.ascontiguousarray(example.labels[:, ::-1])
    return replace(example, **changes)


def flip_vertical(example: Example) -> Example:
    """Mirrors top and bottom."""
    changes: dict[str, Any] = {"image": cv2.flip(example.image, 0)}
    if isinstance(example, DetectionExample):
        height = example.image.shape[0]
        changes["boxes"] = _upended(example.boxes, height)
        if isinstance(example, InstanceExample):
            changes |= {"frames": _upended(example.frames, height), "masks": example.masks[:, ::-1]}
    elif isinstance(example, SegmentationExample):
        changes["labels"] = np.ascontiguousarray(example.labels[::-1])
    return replace(example, **changes)


def _mirrored(boxes: Float[np.ndarray, "n 4"], width: int) -> Float[np.ndarray, "n 4"]:
    """Boxes (x1, y1, x2, y2) in pixels after mirroring left and right an image of that width."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([width - x2, y1, width - x1, y2], axis=1)


def _upended(boxes: Float[np.ndarray, "n 4"], height: int) -> Float[np.ndarray, "n 4"]:
    """Boxes (x1, y1, x2, y2) in pixels after mirroring top and bottom an image of that height."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([x1, height - y2, x2, height - y1], axis=1)


def _resize_image(image: UInt8[np.ndarray, "h w 3"], size: Canvas) -> UInt8[np.ndarray, "nh nw 3"]:
    """Resizes to (height, width): areas averaged where neither side grows, else bilinear."""
    height, width = size
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_labels(labels: Int[np.ndarray, "h w"], size: Canvas) -> Int[np.ndarray, "{size[0]} {size[1]}"]:
    """Each new pixel takes the label under its center.

    Args:
        labels: at least one row and column.
        size: (height, width).
    """
    rows, columns = (
        ((2 * np.arange(new) + 1) * old) // (2 * new) for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def resize(example: Example, size: Canvas) -> Example:
    """Resizes to a given size: areas averaged when shrinking, bilinear when growing, the nearest label.

    Args:
        example: any.
        size: (height, width), at least 1.

    Returns:
        The resized example; a detection example's `scale` is multiplied by the exact ratios.
    """
    height, width = example.image.shape[:2]
    if (height, width) == tuple(size):
        return example
    changes: dict[str, Any] = {"image": _resize_image(example.image, size)}
    if isinstance(example, DetectionExample):
        x, y = size[1] / width, size[0] / height
        ratios = np.array([x, y, x, y])
        changes["boxes"] = (example.boxes * ratios).astype(np.float32)
        changes["scale"] = (example.scale[0] * x, example.scale[1] * y)
        if isinstance(example, InstanceExample):
            changes["frames"] = (example.frames * ratios).astype(np.float32)
    elif isinstance(example, SegmentationExample):
        changes["labels"] = resize_labels(example.labels, size)
    return replace(example, **changes)


def fit_factor(example: AnyExample, canvas: Canvas) -> float:
    """The factor at which an example's image, as it is now, just fits into a canvas."""
    height, width = example.image.shape[:2]
    return min(canvas[0] / height, canvas[1] / width)


def scale_by(example: Example, factor: float) -> Example:
    """Resizes by one factor for both axes; sides are rounded to whole pixels, at least 1."""
    height, width = example.image.shape[:2]
    return resize(example, (max(1, round(height * factor)), max(1, round(width * factor))))


def crop(
    example: Example, top: int, left: int, height: int, width: int, min_visible: float = 0.25
) -> Example:
    """Cuts out a rectangle; boxes are clipped to it, the frames of masks are not.

    Args:
        example: any.
        top: first row kept.
        left: first column kept.
        height: rows kept; the rectangle lies inside the image.
        width: columns kept.
        min_visible: an object is dropped when less than this fraction of its box's area is left, in 0..1.
            Ignored boxes are kept while anything is left of them: what they cover must not become background.

    Returns:
        The part, whose `scale` is unchanged.
    """
    changes: dict[str, Any] = {
        "image": np.ascontiguousarray(example.image[top : top + height, left : left + width])
    }
    if isinstance(example, DetectionExample):
        shift = np.array([left, top, left, top], np.float32)
        limits = np.array([width, height, width, height], np.float32)
        boxes = np.clip(example.boxes - shift, 0, limits)
        left_over = _areas(boxes)
        wanted = np.where(example.ignore, 0.0, min_visible) * _areas(example.boxes)
        keep = (left_over > 0) & (left_over >= wanted * (1 - 1e-6))
        changes |= {
            "boxes": boxes[keep], "labels": example.labels[keep], "ignore": example.ignore[keep]
        }  # fmt: skip
        if isinstance(example, InstanceExample):
            changes |= {"frames": example.frames[keep] - shift, "masks": example.masks[keep]}
    elif isinstance(example, SegmentationExample):
        changes["labels"] = np.ascontiguousarray(example.labels[top : top + height, left : left + width])
    return replace(example, **changes)


def _areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Areas of boxes (x1, y1, x2, y2), in pixels squared."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
