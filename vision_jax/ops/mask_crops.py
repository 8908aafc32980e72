"""What a mask head should predict: the part of each object's mask that a region holds.

Masks come as images with frames, the rectangles of the canvas that they cover: box-relative crops, or
full bitmaps whose frame is the canvas. Both are read by the same sampling, that of RoIAlign.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num, UInt8

from vision_jax.ops.arguments import check_lengths, promoted
from vision_jax.ops.roi import adaptive_weights


def crop_masks(
    masks: UInt8[Array | np.ndarray, "n h w"] | Bool[Array | np.ndarray, "n h w"],
    frames: Num[Array | np.ndarray, "_n 4"],
    which: Int[Array | np.ndarray, " r"],
    boxes: Num[Array | np.ndarray, "_r 4"],
    size: int,
) -> Float[Array, "r {size} {size}"]:
    """Crops an object's mask to each box and resizes it (He et al. 2017, "Mask R-CNN", section 3).

    RoIAlign with as many samples as a bin has cells, at torchvision's positions: a sample at p, in canvas
    pixels, reads what is at p + 0.5. Full bitmaps so give torchvision's targets.

    Args:
        masks: coverage, 0 to 255 (or False and True), of the cells of each object's frame; nothing is outside
            a frame.
        frames: (x1, y1, x2, y2) in canvas pixels.
        which: each box's object.
        boxes: in canvas pixels; one that is not finite gets zeros.
        size: rows and columns of the result.

    Returns:
        Coverage, 0..1, float32 (float64 of float64 boxes); zeros where there is no object at all.

    Raises:
        ValueError: a mask without a frame, or a box without an object.
    """
    check_lengths(masks=masks, frames=frames)
    check_lengths(which=which, boxes=boxes)
    height, width = masks.shape[1:]
    which, (frames, boxes) = jnp.asarray(which), promoted(frames, boxes)
    if 0 in (len(masks), len(boxes), height, width, size):
        return jnp.zeros((len(boxes), size, size), boxes.dtype)
    full = 1 if masks.dtype == bool else 255
    frames = frames[which]

    def weights(low: Array, high: Array, frame_low: Array, frame_high: Array, cells: int) -> Array:
        """Along one axis, what each of a mask's cells is worth in each bin [R, size, cells]."""
        extent = frame_high - frame_low
        scale = cells / jnp.where(extent > 0, extent, 1)
        length = jnp.maximum(high - low, 1) * scale
        start = (low + 0.5 - frame_low) * scale - 0.5
        bin_width = (length / size)[:, None]
        bin_start = start[:, None] + jnp.arange(size) * bin_width
        limit = jnp.full_like(start, cells)
        return adaptive_weights(bin_start, bin_width, limit, jnp.zeros_like(start), cells)

    rows = weights(boxes[:, 1], boxes[:, 3], frames[:, 1], frames[:, 3], height)
    columns = weights(boxes[:, 0], boxes[:, 2], frames[:, 0], frames[:, 2], width)

    def one(region: tuple[Array, Array, Array]) -> Array:
        index, rows, columns = region
        return rows @ (jnp.asarray(masks)[index].astype(rows.dtype) / full) @ columns.T

    # Not all at once: full bitmaps of many regions would fill the memory.
    cropped = lax.map(one, (which, rows, columns), batch_size=16)
    finite = jnp.isfinite(boxes).all(-1)[:, None, None]
    return lax.stop_gradient(jnp.where(finite, cropped, 0))
