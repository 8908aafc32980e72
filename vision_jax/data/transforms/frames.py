"""Masks as pictures with frames (`vision_jax.types.instance`): cut out of masks, rendered on a canvas."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


def cut_masks(
    masks: Bool[np.ndarray, "n h w"], boxes: Float[np.ndarray, "n 4"], size: int
) -> tuple[UInt8[np.ndarray, "n {size} {size}"], Float[np.ndarray, "n 4"]]:
    """Cuts each object's mask out at its box and brings it to one size.

    Args:
        masks: of whole images.
        boxes: (x1, y1, x2, y2) in pixels of the masks, inside them and never empty.
        size: cells along each side of a crop.

    Returns:
        The crops, each cell holding the covered part of its area, 0 to 255; and their frames, the boxes
        widened to whole pixels.
    """
    frames = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.float32)
    crops = np.zeros((len(masks), size, size), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(frames.astype(int).tolist()):
        part = masks[i, y1:y2, x1:x2].astype(np.float32)
        # not OpenCV's INTER_AREA, which is no area where one axis grows and the other shrinks
        crops[i] = np.rint(255 * _row_means(_row_means(part, size).T, size).T)
    return crops, frames


def _row_means(picture: Float[np.ndarray, "h w"], cells: int) -> Float[np.ndarray, "{cells} w"]:
    """Means over equal cells along the rows' axis, pixels under two cells counted in parts."""
    height, width = picture.shape
    edges = np.arange(cells + 1) * (height / cells)
    whole = np.minimum(edges.astype(np.int64), height - 1)
    part = (edges - whole).astype(np.float32)[:, None]
    above = np.zeros((height, width), np.float32)
    np.cumsum(picture[:-1], axis=0, out=above[1:])
    return np.diff(above[whole] + part * picture[whole], axis=0) * np.float32(cells / height)


def render_mask(
    mask: UInt8[np.ndarray, "mh mw"], frame: Float[np.ndarray, " 4"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width}"]:
    """Renders a mask on a canvas: each pixel takes the cell that its center falls in, 0 outside the frame.

    Args:
        mask: a picture of cells.
        frame: (x1, y1, x2, y2), the part of the canvas that it covers; may reach over the border.
        height, width: of the canvas, in pixels.

    Returns:
        The canvas.
    """
    x1, y1, x2, y2 = frame.astype(np.float64)
    canvas = np.zeros((height, width), np.uint8)
    rows, top = _cells(y1, y2, mask.shape[0], height)
    columns, left = _cells(x1, x2, mask.shape[1], width)
    canvas[top : top + len(rows), left : left + len(columns)] = mask[rows[:, None], columns]
    return canvas


def _cells(low: float, high: float, cells: int, pixels: int) -> tuple[Int[np.ndarray, " inside"], int]:
    """Along one axis: the cell under each center of the pixels inside the frame, and the first such pixel."""
    cell = np.floor((np.arange(pixels) + 0.5 - low) * cells / (high - low)).astype(np.int64)
    inside = np.flatnonzero((cell >= 0) & (cell < cells))
    return cell[inside], int(inside[0]) if len(inside) else 0
