"""Masks between an object's box and the whole image (He et al. 2017, "Mask R-CNN", section 3).

A head predicts a mask on a small grid laid over its box. Pasting takes it to the image's own pixels, as
torchvision does: a ring of empty cells is added, so that a mask can fade out at its box; the box grows with
it and is cut to whole pixels, both ends inside; and the values are bilinear between the cells' centers.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, Num


def paste_window(
    probabilities: Num[np.ndarray, "m m"], box: Num[np.ndarray, " 4"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "_h _w"], tuple[int, int]]:
    """The part of the image that a mask reaches, and its values there.

    Args:
        probabilities: one object's mask over its box, of any dtype.
        box: (x1, y1, x2, y2) in the image's pixels, x2 and y2 exclusive, of any dtype; it may reach over the
            border. One that is not finite has no pixels.
        size: (height, width) of the image.

    Returns:
        The values, float32, of pixels inside the image, perhaps none; and (row, column) of the first.
    """
    # Integers wrap and halves overflow in the sum of two corners.
    box = box.astype(np.promote_types(box.dtype, np.float32))
    cells = len(probabilities) + 2
    if cells == 2 or not np.isfinite(box).all():
        return np.zeros((0, 0), np.float32), (0, 0)
    padded = np.zeros((cells, cells), np.float32)
    padded[1:-1, 1:-1] = probabilities
    half = (box[2:] - box[:2]) * 0.5 * (cells / (cells - 2))
    center = (box[2:] + box[:2]) * 0.5
    left, top = (center - half).astype(np.int64).tolist()
    right, bottom = (center + half).astype(np.int64).tolist()
    first_row, above, below, down = _neighbors(top, bottom, size[0], cells)
    first_column, before, after, across = _neighbors(left, right, size[1], cells)
    # Elementwise, rows first: for matrices this small, starting BLAS's threads costs more than the product.
    rows = padded[above] * (1 - down[:, None]) + padded[below] * down[:, None]
    values = rows[:, before] * (1 - across) + rows[:, after] * across
    return values, (first_row, first_column)


def _neighbors(
    first: int, last: int, limit: int, cells: int
) -> tuple[int, Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Between which cells the pixels from `first` to `last` inside 0..limit lie.

    Returns:
        The first such pixel; each one's cell before, cell after, and how far it is from the one to the other.
    """
    length = max(last + 1 - first, 1)
    start = min(max(first, 0), limit)
    pixels = np.arange(start, max(min(last + 1, limit), start))
    position = ((pixels - first + 0.5) * (cells / length) - 0.5).clip(0, cells - 1)
    before = position.astype(np.int64)
    return start, before, np.minimum(before + 1, cells - 1), (position - before).astype(np.float32)


def paste_probabilities(
    probabilities: Num[np.ndarray, "m m"], box: Num[np.ndarray, " 4"], size: tuple[int, int]
) -> Float[np.ndarray, "{size[0]} {size[1]}"]:
    """A mask over its box as values of the whole image, 0 where it does not reach.

    Args:
        probabilities: one object's mask over its box, of any dtype.
        box: (x1, y1, x2, y2) in the image's pixels, x2 and y2 exclusive, of any dtype; it may reach over the
            border. One that is not finite has no pixels.
        size: (height, width) of the image.

    Returns:
        float32, of that size.
    """
    values, (row, column) = paste_window(probabilities, box, size)
    image = np.zeros(size, np.float32)
    image[row : row + values.shape[0], column : column + values.shape[1]] = values
    return image


def paste_mask(
    probabilities: Num[np.ndarray, "m m"],
    box: Num[np.ndarray, " 4"],
    size: tuple[int, int],
    threshold: float = 0.5,
) -> Bool[np.ndarray, "{size[0]} {size[1]}"]:
    """The pixels of the image that belong to an object.

    Args:
        probabilities: the object's mask over its box, float32.
        box: (x1, y1, x2, y2) in the image's pixels, x2 and y2 exclusive; it may reach over the border.
        size: (height, width) of the image.
        threshold: a pixel belongs to the object where its probability is above this.

    Returns:
        The mask, of that size.
    """
    values, (row, column) = paste_window(probabilities, box, size)
    image = np.zeros(size, bool)
    image[row : row + values.shape[0], column : column + values.shape[1]] = values > threshold
    return image
