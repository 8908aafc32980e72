"""Intersection over union (IoU) and over area (IoA) of boxes, in float64 numpy, outside compiled code."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Num


def pairwise_iou(a: Num[np.ndarray, "n 4"], b: Num[np.ndarray, "m 4"]) -> Float64[np.ndarray, "n m"]:
    """Intersection over union of every pair of boxes.

    Args:
        a: boxes (x1, y1, x2, y2), x2 and y2 exclusive, of any dtype.
        b: others.

    Returns:
        IoU, 0..1; 0 where the union is 0.
    """
    intersection, area_a, area_b = _intersection_and_areas(a, b)
    return _ratio(intersection, area_a + area_b - intersection)


def pairwise_ioa(a: Num[np.ndarray, "n 4"], b: Num[np.ndarray, "m 4"]) -> Float64[np.ndarray, "n m"]:
    """Intersection of every pair of boxes over the area of the first: COCO's measure against a crowd region.

    Args:
        a: boxes (x1, y1, x2, y2), x2 and y2 exclusive, of any dtype.
        b: others, such as crowd regions.

    Returns:
        IoA, 0..1; 0 where the area of `a` is 0.
    """
    intersection, area_a, _ = _intersection_and_areas(a, b)
    return _ratio(intersection, area_a)


def _intersection_and_areas(
    a: Num[np.ndarray, "n 4"], b: Num[np.ndarray, "m 4"]
) -> tuple[Float64[np.ndarray, "n m"], Float64[np.ndarray, "n 1"], Float64[np.ndarray, "1 m"]]:
    """The area that each pair shares, and the areas of both sets of boxes, in square pixels."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a = np.prod(np.maximum(a[:, 2:] - a[:, :2], 0), axis=-1)[:, None]
    area_b = np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=-1)[None]
    return intersection, area_a, area_b


def _ratio(part: Float[np.ndarray, "n m"], whole: Float[np.ndarray, "..."]) -> Float64[np.ndarray, "n m"]:
    """The quotient, 0 where `whole` (of a shape that broadcasts to `part`'s) is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
