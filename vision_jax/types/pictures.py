"""Pictures for people: uint8 RGB arrays, each of its own size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

Picture = UInt8[np.ndarray, "_h _w 3"]


def stack_pictures(pictures: Sequence[Picture], gap: int = 12) -> Picture:
    """Sets pictures one below another, on white, flush left.

    Args:
        pictures: at least one.
        gap: pixels between them.

    Returns:
        One picture as wide as the widest.
    """
    width = max(picture.shape[1] for picture in pictures)
    gaps = [gap] * (len(pictures) - 1) + [0]
    padded = [
        np.pad(picture, ((0, below), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
        for picture, below in zip(pictures, gaps, strict=True)
    ]
    return np.concatenate(padded)
