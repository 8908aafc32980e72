"""Masks as COCO's run lengths: their IoU as regions, and along their boundaries.

Boundary IoU (Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation") is
the intersection over union of the parts of two masks near their own contours, no further inside than 2 % of
the image's diagonal, in whole pixels, at least one; diagonal steps count as one, and the image's border is a
contour. It does not forgive a large object's coarse outline, as mask IoU does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

# COCO's {"size": [height, width], "counts": packed run lengths}.
Rle = dict[str, Any]

# Below the lowest threshold of COCO's protocol two masks do not match, however their boundaries run.
_LEAST = 0.5


def encode_window(window: Bool[np.ndarray, "_h _w"], corner: tuple[int, int], size: tuple[int, int]) -> Rle:
    """Run lengths of a mask that is given only where it may be True.

    Args:
        window: that part of the mask.
        corner: (row, column) of its first pixel in the image.
        size: (height, width) of the image.

    Returns:
        Run lengths of the whole mask, packed.
    """
    from faster_coco_eval.core import mask

    rows, columns = window.shape
    # A False above and below each column of the window: no run leaves its column.
    padded = np.zeros((columns, rows + 2), bool)
    padded[:, 1:-1] = window.T
    flat = padded.ravel()
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), rows + 2)
    changes, times = np.unique((corner[1] + column) * size[0] + corner[0] + row, return_counts=True)
    # Twice: a run ends at the image's foot and another starts at the head of the next column, so neither.
    runs = np.diff(changes[times == 1], prepend=0, append=size[0] * size[1]).tolist()
    if len(runs) > 1 and runs[-1] == 0:
        runs.pop()
    return mask.segmToRle({"size": list(size), "counts": runs}, size[1], size[0])


def encode_mask(mask: Bool[np.ndarray, "h w"]) -> Rle:
    """Run lengths of a whole mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return encode_window(mask[:0, :0], (0, 0), mask.shape)
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return encode_window(window, (int(rows[0]), int(columns[0])), mask.shape)


def encode_shape(shape: list[list[float]] | Rle, size: tuple[int, int]) -> Rle:
    """A shape as COCO's own tools rasterize it.

    Args:
        shape: polygons [x, y, x, y, ...], at least one, or run lengths, packed or not.
        size: (height, width) of the image.

    Returns:
        Run lengths, packed.
    """
    from faster_coco_eval.core import mask

    return mask.segmToRle(shape, size[1], size[0])  # pyright: ignore[reportArgumentType]


def mask_areas(masks: Sequence[Rle]) -> list[float]:
    """The area of each mask, in pixels."""
    from faster_coco_eval.core import mask

    return [float(area) for area in mask.area(list(masks))] if masks else []


def mask_and_boundary_iou(
    found: Sequence[Rle], truth: Sequence[Rle], crowd: Bool[np.ndarray, " g"]
) -> tuple[Float[np.ndarray, "d g"], Float[np.ndarray, "d g"]]:
    """Mask IoU of every pair, and the lesser of mask and boundary IoU, which boundary AP is made of.

    Args:
        found: D masks, at least one.
        truth: G masks of the same image, at least one.
        crowd: which of them are regions of many objects: for these both measures are the intersection over
            the area of the found mask.

    Returns:
        The mask IoU; and the lesser of the two where the mask IoU is at least 0.5, elsewhere the mask IoU.
    """
    from faster_coco_eval.core import mask

    iou = np.asarray(mask.iou(list(found), list(truth), crowd.astype(int).tolist()), np.float64)
    close = (iou >= _LEAST) & ~crowd
    least = iou.copy()
    rows, columns = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
    if len(rows):
        boundary = mask.iou(
            [mask.rleToBoundary(found[int(i)]) for i in rows],
            [mask.rleToBoundary(truth[int(i)]) for i in columns],
            [0] * len(columns),
        )
        pairs = np.ix_(rows, columns)
        least[pairs] = np.where(close[pairs], np.minimum(iou[pairs], boundary), iou[pairs])
    return iou, least
