"""Moving boxes (x1, y1, x2, y2), in pixels, x2 and y2 exclusive: what fields with boxes have in common."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vision_jax.data.fields.field import CropWindow, Size


def flip_boxes_horizontal(boxes: Float[np.ndarray, "n 4"], size: Size) -> Float[np.ndarray, "n 4"]:
    """Boxes after mirroring left and right an image of that size."""
    x1, y1, x2, y2 = boxes.T
    width = size[1]
    return np.stack([width - x2, y1, width - x1, y2], axis=1)


def flip_boxes_vertical(boxes: Float[np.ndarray, "n 4"], size: Size) -> Float[np.ndarray, "n 4"]:
    """Boxes after mirroring top and bottom an image of that size."""
    x1, y1, x2, y2 = boxes.T
    height = size[0]
    return np.stack([x1, height - y2, x2, height - y1], axis=1)


def resize_boxes(boxes: Float[np.ndarray, "n 4"], old: Size, new: Size) -> Float[np.ndarray, "n 4"]:
    """Boxes of a resized image: float32."""
    x, y = new[1] / old[1], new[0] / old[0]
    return (boxes * np.array([x, y, x, y])).astype(np.float32)


def shift_boxes(boxes: Float[np.ndarray, "n 4"], window: CropWindow) -> Float[np.ndarray, "n 4"]:
    """Boxes in pixels of the window, inside it or not."""
    return boxes - np.array([window.left, window.top, window.left, window.top], np.float32)


def crop_boxes(boxes: Float[np.ndarray, "n 4"], window: CropWindow) -> Float[np.ndarray, "n 4"]:
    """Boxes in pixels of the window, clipped to it: those outside it are empty."""
    limits = np.array([window.width, window.height, window.width, window.height], np.float32)
    return np.clip(shift_boxes(boxes, window), 0, limits)


def box_areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Areas of boxes, in pixels squared."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
