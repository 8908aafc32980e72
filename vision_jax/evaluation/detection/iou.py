"""Intersection over union in float64 numpy, for judging; ragged, outside any compiled function."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Num


def pairwise_overlap(
    a: Num[np.ndarray, "n 4"], b: Num[np.ndarray, "m 4"]
) -> tuple[Float[np.ndarray, "n m"], Float[np.ndarray, "n m"]]:
    """How much boxes cover one another.

    Args:
        a: boxes (x1, y1, x2, y2), x2 and y2 exclusive, of any dtype.
        b: others.

    Returns:
        The intersection over the union, and the intersection over the area of `a` (COCO's measure
        for a box `a` against a crowd region `b`); 0 where the denominator is 0.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a = np.prod(np.maximum(a[:, 2:] - a[:, :2], 0), axis=-1)[:, None]
    area_b = np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=-1)[None]
    union = area_a + area_b - shared
    over_union = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    over_a = np.divide(shared, area_a, out=np.zeros_like(shared), where=area_a > 0)
    return over_union, over_a
