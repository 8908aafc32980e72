"""Region-of-interest pooling: a fixed-size grid of features for each box.

RoIPool (Girshick 2015, "Fast R-CNN", section 2.1) rounds a box to whole cells, cuts it into bins and takes
each bin's maximum. RoIAlign (He et al. 2017, "Mask R-CNN", section 3) rounds nothing: it averages bilinear
samples inside each bin. On a feature pyramid each box reads the one level that suits its size (Lin et al.
2017, "Feature Pyramid Networks", equation 1).

Shapes: features [H, W, C] of one image, boxes [R, 4] as (x1, y1, x2, y2) in image pixels, results
[R, h, w, C]. The boxes receive no gradient. Both may be of any dtype: positions and means are computed in
float32, or in float64 where an argument is; results are in the features' dtype, means of integers rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num

from vision_jax.kernels.rectangle_maxima import rectangle_maxima
from vision_jax.kernels.window_sums import window_sums
from vision_jax.ops.arguments import compute_dtype, promoted, rounded

Reduce = Literal["mean", "max"]


def roi_align(
    features: Num[Array | np.ndarray, "h w c"],
    boxes: Num[Array | np.ndarray, "r 4"],
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 2,
    aligned: bool = False,
    reduce: Reduce = "mean",
) -> Num[Array, "r ph pw c"]:
    """Bilinear samples in each bin of each box, averaged or the largest (Mask R-CNN, section 3, table 2c).

    Args:
        features: one feature map.
        boxes: in image pixels; they may leave the image, where samples count as zero. A box that is not
            finite pools zeros.
        output_size: bins per box, (h, w) or one number for both.
        spatial_scale: cells per image pixel, 1 / stride.
        sampling_ratio: samples per bin along each axis; 0 takes ceil(box size / output size), so that
            samples lie at most one cell apart.
        aligned: True shifts by half a cell, since a cell's center is at +0.5; False is the convention of
            the first implementations, which also widens boxes narrower than one cell to one cell.
        reduce: `mean` of a bin's samples, or their `max` in each channel, whose gradient is split equally
            among samples that tie.

    Returns:
        The pooled features, in the features' dtype.

    Raises:
        ValueError: the sampling ratio is negative, or 0 with `max`.
    """
    return multilevel_roi_align(
        *([features], boxes, output_size, [spatial_scale]),
        sampling_ratio=sampling_ratio,
        aligned=aligned,
        reduce=reduce,
    )


def multilevel_roi_align(
    features: Sequence[Num[Array | np.ndarray, "_ _ c"]],
    boxes: Num[Array | np.ndarray, "r 4"],
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_size: float = 224,
    canonical_level: int = 4,
    reduce: Reduce = "mean",
) -> Num[Array, "r ph pw c"]:
    """RoIAlign from the pyramid level that suits each box's size (Feature Pyramid Networks, equation 1).

    Args:
        features: the pyramid's maps, finest first.
        boxes: in image pixels.
        output_size: bins per box, (h, w) or one number for both.
        spatial_scales: cells per image pixel of each map, powers of one half, each half the last.
        sampling_ratio: as in `roi_align`.
        aligned: as in `roi_align`.
        canonical_size: the size, in pixels, of a box that reads `canonical_level`.
        canonical_level: log2 of that level's stride.
        reduce: as in `roi_align`.

    Returns:
        The pooled features, in the features' dtype.

    Raises:
        ValueError: the sampling ratio is negative, or 0 with `max`, or the scales are not one a map, positive
            and halving.
    """
    if sampling_ratio < 0:
        raise ValueError(f"sampling_ratio is {sampling_ratio}; it is a number of samples, or 0 for adaptive.")
    if reduce == "max" and not sampling_ratio:
        raise ValueError("reduce='max' takes a fixed sampling_ratio, not 0 (adaptive).")
    size = _pair(output_size)
    dtype = compute_dtype(boxes, *features)
    level = box_levels(boxes, spatial_scales, canonical_size, canonical_level)
    atlas, tops, shapes = _stack_levels(features, spatial_scales)
    if 0 in (pooled_shape := (len(boxes), *size, atlas.shape[-1])):
        return jnp.zeros(pooled_shape, atlas.dtype)
    heights, widths = jnp.asarray(shapes, dtype)[level].T
    scaled = _to_cells(boxes, level, spatial_scales, dtype)
    vertical = _axis(scaled[:, 1], scaled[:, 3], size[0], aligned)
    horizontal = _axis(scaled[:, 0], scaled[:, 2], size[1], aligned)
    if sampling_ratio == 0:
        rows = adaptive_weights(*vertical, heights, jnp.asarray(tops, dtype)[level], atlas.shape[0])
        columns = adaptive_weights(*horizontal, widths, jnp.zeros_like(widths), atlas.shape[1])
        pooled = _weigh_cells(atlas, rows, columns)
    else:
        rows, row_weights = _samples(*vertical, sampling_ratio, heights)
        columns, column_weights = _samples(*horizontal, sampling_ratio, widths)
        rows = rows + jnp.asarray(tops, jnp.int32)[level][:, None, None]
        pooled = _reduce_samples(atlas, rows, row_weights, columns, column_weights, reduce)
    return rounded(pooled.reshape(pooled_shape), atlas.dtype)


def box_levels(
    boxes: Num[Array | np.ndarray, "r 4"],
    spatial_scales: Sequence[float],
    canonical_size: float = 224,
    canonical_level: int = 4,
) -> Int[Array, " r"]:
    """The pyramid level that each box reads (Feature Pyramid Networks, equation 1).

    Args:
        boxes: in image pixels.
        spatial_scales: cells per image pixel of each map, finest first.
        canonical_size: the size, in pixels, of a box that reads `canonical_level`.
        canonical_level: log2 of that level's stride.

    Returns:
        int32 positions in `spatial_scales`.

    Raises:
        ValueError: there is no scale, one is not positive, or they do not halve from map to map.
    """
    if not len(spatial_scales) or not min(spatial_scales) > 0:
        raise ValueError(f"spatial_scales are {tuple(spatial_scales)}; give a positive number for each map.")
    if not np.allclose(np.divide(spatial_scales[1:], spatial_scales[:-1]), 0.5):
        raise ValueError(f"spatial_scales are {tuple(spatial_scales)}; each must be half the one before.")
    lowest = round(-math.log2(spatial_scales[0]))
    highest = round(-math.log2(spatial_scales[-1]))
    (boxes,) = promoted(lax.stop_gradient(boxes))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # The small constant keeps a box of exactly the canonical size on its level in spite of rounding.
    level = jnp.floor(canonical_level + jnp.log2(jnp.sqrt(area) / canonical_size) + 1e-6)
    level = jnp.where(area > 0, jnp.clip(level, lowest, highest), lowest)
    return level.astype(jnp.int32) - lowest


def roi_pool(
    features: Num[Array | np.ndarray, "h w c"],
    boxes: Num[Array | np.ndarray, "r 4"],
    output_size: int | tuple[int, int],
    spatial_scale: float,
) -> Num[Array, "r ph pw c"]:
    """The maximum of each bin of each box, both rounded to whole cells (Fast R-CNN, section 2.1).

    Where several cells of a bin hold the maximum (zeros after a ReLU often do), the first in row-major
    order receives the gradient.

    Args:
        features: one feature map.
        boxes: in image pixels; they may leave the image.
        output_size: bins per box, (h, w) or one number for both.
        spatial_scale: cells per image pixel, 1 / stride.

    Returns:
        The pooled features, in the features' dtype; 0 for bins without a cell.
    """
    return multilevel_roi_pool([features], boxes, output_size, [spatial_scale])


def multilevel_roi_pool(
    features: Sequence[Num[Array | np.ndarray, "_ _ c"]],
    boxes: Num[Array | np.ndarray, "r 4"],
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    canonical_size: float = 224,
    canonical_level: int = 4,
) -> Num[Array, "r ph pw c"]:
    """RoIPool from the pyramid level that suits each box's size.

    Args:
        features: the pyramid's maps, finest first.
        boxes: in image pixels.
        output_size: bins per box, (h, w) or one number for both.
        spatial_scales: cells per image pixel of each map, powers of one half, each half the last.
        canonical_size: the size, in pixels, of a box that reads `canonical_level`.
        canonical_level: log2 of that level's stride.

    Returns:
        The pooled features, in the features' dtype; 0 for bins without a cell.

    Raises:
        ValueError: the scales are not one a map, positive and halving.
    """
    size = _pair(output_size)
    level = box_levels(boxes, spatial_scales, canonical_size, canonical_level)
    atlas, tops, shapes = _stack_levels(features, spatial_scales)
    if 0 in (pooled_shape := (len(boxes), *size, atlas.shape[-1])):
        return jnp.zeros(pooled_shape, atlas.dtype)
    tops, (heights, widths) = jnp.asarray(tops, jnp.int32)[level], jnp.asarray(shapes, jnp.int32)[level].T
    scaled = _to_cells(boxes, level, spatial_scales, compute_dtype(boxes))
    # Halves are rounded away from zero, as C rounds them.
    cells = (jnp.sign(scaled) * jnp.floor(jnp.abs(scaled) + 0.5)).astype(jnp.int32)
    top, bottom = _bin_edges(cells[:, 1], cells[:, 3], size[0], heights)
    left, right = _bin_edges(cells[:, 0], cells[:, 2], size[1], widths)
    edges = (
        (top + tops[:, None])[:, :, None],
        (bottom + tops[:, None])[:, :, None],
        left[:, None, :],
        right[:, None, :],
    )
    rectangles = jnp.stack([jnp.broadcast_to(edge, (len(boxes), *size)) for edge in edges], -1)
    pooled = rectangle_maxima(atlas, rectangles.reshape(-1, 4))
    return pooled.reshape(pooled_shape)


def _bin_edges(
    low: Int[Array, " r"], high: Int[Array, " r"], bins: int, limit: Int[Array, " r"]
) -> tuple[Int[Array, "r {bins}"], Int[Array, "r {bins}"]]:
    """Along one axis, each bin's first cell and the one after its last, inside the map of `limit` cells."""
    length = jnp.maximum(high - low + 1, 1).astype(jnp.float32)
    width = _divide(length, bins)[:, None]
    first = jnp.floor(jnp.arange(bins) * width).astype(jnp.int32) + low[:, None]
    last = jnp.ceil(jnp.arange(1, bins + 1) * width).astype(jnp.int32) + low[:, None]
    return jnp.clip(first, 0, limit[:, None]), jnp.clip(last, 0, limit[:, None])


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of bins; a ValueError where one is negative."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 0:
        raise ValueError(f"output_size is {size}; it is a number of bins, at least 0.")
    return height, width


def _stack_levels(
    features: Sequence[Num[Array | np.ndarray, "_ _ c"]], spatial_scales: Sequence[float]
) -> tuple[Num[Array, "y x c"], Int[np.ndarray, " l"], Int[np.ndarray, "l 2"]]:
    """Puts a pyramid's maps one above the other: the atlas, each map's first row, each map's shape.

    Every map takes at least two rows and columns, so that a window of 2 x 2 cells always fits.
    """
    if len(features) != len(spatial_scales):
        raise ValueError(f"There are {len(features)} feature maps but {len(spatial_scales)} spatial scales.")
    shapes = np.array([map_.shape[:2] for map_ in features])
    width = max(2, shapes[:, 1].max())
    padded = [jnp.pad(m, ((0, max(0, 2 - m.shape[0])), (0, width - m.shape[1]), (0, 0))) for m in features]
    tops = np.cumsum([0] + [len(map_) for map_ in padded[:-1]])
    return jnp.concatenate(padded), tops, shapes


def _to_cells(
    boxes: Num[Array | np.ndarray, "r 4"],
    level: Int[Array, " r"],
    spatial_scales: Sequence[float],
    dtype: np.dtype,
) -> Float[Array, "r 4"]:
    """Boxes in cells of their own level; a box receives no gradient."""
    return (
        lax.stop_gradient(jnp.asarray(boxes)).astype(dtype)
        * jnp.asarray(spatial_scales, dtype)[level][:, None]
    )


def _divide(length: Float[Array, "*shape"], count: int) -> Float[Array, "*shape"]:
    """length / count, rounded as IEEE has it.

    XLA turns a division by a constant into a product with its reciprocal, whose last bit differs: the
    ceiling of 14 * (1 / 7) is 3. A divisor that depends on data is left alone.
    """
    return length / (count + 0 * length)


def _axis(
    low: Float[Array, " r"], high: Float[Array, " r"], bins: int, aligned: bool
) -> tuple[Float[Array, "r {bins}"], Float[Array, "r 1"]]:
    """Along one axis, in cells: where each bin begins and how wide a box's bins are."""
    shift = 0.5 if aligned else 0.0
    start = low - shift
    length = high - shift - start
    if not aligned:
        length = jnp.maximum(length, 1)
    width = _divide(length, bins)[:, None]
    return start[:, None] + jnp.arange(bins, dtype=start.dtype) * width, width


def _samples(
    bin_start: Float[Array, "r bins"], bin_width: Float[Array, "r 1"], ratio: int, limit: Float[Array, " r"]
) -> tuple[Int[Array, "r bins {ratio}"], Float[Array, "r bins {ratio} 2"]]:
    """Along one axis, the first of each sample's two cells (int32) and both cells' weights in the bin's mean.

    Args:
        bin_start: in cells.
        bin_width: of all of a box's bins, in cells.
        ratio: samples per bin.
        limit: the length of each box's map, in cells.
    """
    steps = np.arange(ratio, dtype=bin_start.dtype) + 0.5
    position = bin_start[..., None] + steps * bin_width[..., None] / ratio
    limit = limit[:, None, None]
    # A sample up to one cell outside takes the border's value; one farther out counts as zero.
    inside = (position >= -1) & (position <= limit)
    # Where a box is NaN nothing is inside, and no cell may be read that does not exist.
    position = jnp.where(inside, jnp.clip(position, 0, limit - 1), 0)
    cell = jnp.minimum(jnp.floor(position), jnp.maximum(limit - 2, 0))
    fraction = position - cell
    weights = jnp.stack([1 - fraction, fraction], -1) * (inside / ratio)[..., None]
    return cell.astype(jnp.int32), weights


def _reduce_samples(
    atlas: Num[Array, "y x c"],
    rows: Int[Array, "r h s"],
    row_weights: Float[Array, "r h s 2"],
    columns: Int[Array, "r w s"],
    column_weights: Float[Array, "r w s 2"],
    reduce: Reduce,
) -> Float[Array, "r*h*w c"]:
    """The mean or the largest of each bin's samples."""
    boxes, height, per_row = rows.shape
    width, per_column = columns.shape[1:]
    shape = (boxes, height, width, per_row, per_column)
    corners = jnp.stack(
        [
            jnp.broadcast_to(rows[:, :, None, :, None], shape),
            jnp.broadcast_to(columns[:, None, :, None, :], shape),
        ],
        -1,
    )
    weights = row_weights[:, :, None, :, None, :, None] * column_weights[:, None, :, None, :, None, :]
    count, per_bin = boxes * height * width, per_row * per_column
    if reduce == "mean":
        return window_sums(atlas, corners.reshape(count, per_bin, 2), weights.reshape(count, per_bin, 2, 2))
    # A sample's weights are for the mean: as many times as much is the sample itself.
    samples = window_sums(
        atlas, corners.reshape(count * per_bin, 1, 2), per_bin * weights.reshape(count * per_bin, 1, 2, 2)
    )
    return samples.reshape(count, per_bin, -1).max(1)


def adaptive_weights(
    bin_start: Float[Array, "r bins"],
    bin_width: Float[Array, "r 1"],
    limit: Float[Array, " r"],
    offset: Float[Array, " r"],
    cells: int,
) -> Float[Array, "r bins {cells}"]:
    """Along one axis, each cell's weight in each bin's mean, with as many samples as the bin has cells.

    The number of samples depends on the box, but where there are several they lie more than half a cell
    apart, so at most five are within a cell's reach.

    Args:
        bin_start: in cells.
        bin_width: of all of a box's bins.
        limit: the length of each box's map.
        offset: where that map begins in the atlas.
        cells: the atlas's length.
    """
    limit, offset = limit[:, None, None], offset[:, None, None]
    start, width = bin_start[..., None], bin_width[..., None]
    count = jnp.ceil(width)
    step = width / jnp.maximum(count, 1)
    cell = jnp.arange(cells, dtype=start.dtype) - offset
    first = jnp.where(count > 1, jnp.floor((cell - 1 - start) / jnp.where(count > 1, step, 1) - 0.5), 0)
    weights = jnp.zeros(first.shape, start.dtype)
    for k in range(7):
        position = start + (first + k + 0.5) * step
        counts = (first + k >= 0) & (first + k < count) & (position >= -1) & (position <= limit)
        near = jnp.maximum(1 - jnp.abs(cell - jnp.clip(position, 0, limit - 1)), 0)
        weights = weights + jnp.where(counts, near, 0)
    return jnp.where(count > 0, weights / jnp.maximum(count, 1), 0)


def _weigh_cells(
    atlas: Num[Array, "y x c"], rows: Float[Array, "r h y"], columns: Float[Array, "r w x"]
) -> Float[Array, "r h w c"]:
    """Sums all cells with weights that separate into rows and columns."""
    count, some = len(rows), max(1, min(32, len(rows)))
    atlas = atlas.astype(rows.dtype)

    def some_boxes(weights):
        half = jnp.einsum("riy,yxc->rixc", weights[0], atlas)
        return jnp.einsum("rjx,rixc->rijc", weights[1], half)

    def chunks(weights):
        weights = jnp.pad(weights, ((0, -count % some), (0, 0), (0, 0)))
        return weights.reshape(-1, some, *weights.shape[1:])

    # Not all boxes at once: for each of them, `half` holds h whole rows of the atlas.
    pooled = lax.map(some_boxes, (chunks(rows), chunks(columns)))
    return pooled.reshape(-1, *pooled.shape[2:])[:count]
