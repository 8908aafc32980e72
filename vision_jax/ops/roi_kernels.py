"""The inner loops of RoIAlign and RoIPool: sums and maxima of small rectangles of a feature map.

Both read an *atlas* [Y, X, C]: a feature map, or a pyramid's maps one above the other. They know nothing of
boxes, only where to read. What is unusual in them is for speed, measured at 512 boxes of 7 x 7 bins on
50 x 50 x 256 features:

- A sum of gathers that differ only in their indices compiles to one loop over channels; the same gather
  with an axis to sum over does not, and takes ten times as long.
- XLA compiles the gradient of a gather, a scatter, to a slow loop on the CPU; a loop that adds windows in
  place takes a tenth of its time. On other devices the scatter is the parallel form.
- The maximum of a rectangle is that of a few squares that cover it, overlaps allowed, and the maxima of
  squares of 1, 2, 4... cells are made once for all rectangles.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int

# Squares of up to 2**2 cells: bins are mostly smaller than 8 cells, which two squares of 4 cover.
_LARGEST_SQUARE = 2


@jax.custom_vjp
def window_sums(
    atlas: Float[Array, "y x c"], corners: Int[Array, "n s 2"], weights: Float[Array, "n s 2 2"]
) -> Float[Array, "n c"]:
    """Weighted sums over windows of 2 x 2 cells: bilinear samples, added up.

    Only the atlas receives a gradient.

    Args:
        atlas: the features.
        corners: (y, x) of each window's first cell; the whole window is inside the atlas.
        weights: of each window's cells.

    Returns:
        For each n, the sum over its s windows, in the weights' dtype.
    """
    height, width, channels = atlas.shape
    rows = atlas.reshape(height * width, channels)
    first = corners[..., 0] * width + corners[..., 1]

    def add_window(s, total):
        for dy in (0, 1):
            for dx in (0, 1):
                cells = rows.at[first[:, s] + (dy * width + dx)].get(mode="promise_in_bounds")
                total = total + cells * weights[:, s, dy, dx, None]
        return total

    total = jnp.zeros((corners.shape[0], channels), weights.dtype)
    return lax.fori_loop(0, corners.shape[1], add_window, total)


def _window_sums_forward(atlas, corners, weights):
    # The features themselves are not needed again, only their shape and dtype.
    return window_sums(atlas, corners, weights), (atlas[..., :0], corners, weights)


def _window_sums_backward(residuals, gradient):
    like, corners, weights = residuals
    zeros = jnp.zeros((*like.shape[:2], gradient.shape[-1]), gradient.dtype)
    spread = lax.platform_dependent(
        zeros, corners, weights, gradient, cpu=_spread_in_turn, default=_spread_at_once
    )
    return spread.astype(like.dtype), None, None


@sequential_vmap
def _spread_in_turn(atlas, corners, weights, gradient):
    """Adds each window's share in place, one after the other; a batch is a loop too, lest it scatter."""
    per_sum, channels = corners.shape[1], gradient.shape[1]

    def add_window(k, atlas):
        n, s = k // per_sum, k % per_sum
        place = (corners[n, s, 0], corners[n, s, 1], 0)
        window = lax.dynamic_slice(atlas, place, (2, 2, channels))
        return lax.dynamic_update_slice(atlas, window + weights[n, s][..., None] * gradient[n], place)

    return lax.fori_loop(0, corners.shape[0] * per_sum, add_window, atlas)


def _spread_at_once(atlas, corners, weights, gradient):
    """Adds all windows' shares by one scatter."""
    cell = jnp.arange(2)
    rows = corners[:, :, 0, None, None] + cell[:, None]
    columns = corners[:, :, 1, None, None] + cell
    shares = weights[..., None] * gradient[:, None, None, None, :]
    return atlas.at[rows, columns].add(shares, mode="promise_in_bounds")


window_sums.defvjp(_window_sums_forward, _window_sums_backward)


@jax.custom_vjp
def rectangle_maxima(atlas: Float[Array, "y x c"], rectangles: Int[Array, "n 4"]) -> Float[Array, "n c"]:
    """The maximum of each channel over rectangles of cells.

    Among equal cells the first in row-major order receives the gradient.

    Args:
        atlas: the features.
        rectangles: (top, bottom, left, right), bottom and right exclusive, inside the atlas.

    Returns:
        The maxima, 0 for an empty rectangle.
    """
    return _maxima_and_cells(atlas, rectangles)[0]


def _maxima_and_cells(atlas, rectangles):
    """Maxima and the cells (y * X + x) they are from; the compiler drops the cells where nobody asks."""
    height, width, channels = atlas.shape
    values, cells = _square_maxima(atlas)
    top, bottom, left, right = rectangles.T
    tall, wide = jnp.maximum(bottom - top, 0), jnp.maximum(right - left, 0)
    side_log2 = sum((jnp.minimum(tall, wide) >= 2**k).astype(jnp.int32) for k in range(1, _LARGEST_SQUARE + 1))
    side = 1 << side_log2
    # Squares are taken two by two along each axis; one that would pass the end is pushed back inside.
    down = jnp.max(-(-tall // (2 * side)), initial=0)
    across = jnp.max(-(-wide // (2 * side)), initial=0)

    def visit(step, found):
        best, where = found
        for k in range(4):
            y = jnp.clip(top + side * (2 * (step // across) + k // 2), 0, bottom - side)
            x = jnp.clip(left + side * (2 * (step % across) + k % 2), 0, right - side)
            place = (side_log2 * height + jnp.maximum(y, 0)) * width + jnp.maximum(x, 0)
            best, where = _better(best, where, _take(values, place), _take(cells, place))
        return best, where

    lowest = jnp.full((len(rectangles), channels), -jnp.inf, atlas.dtype)
    nowhere = jnp.full(lowest.shape, height * width, jnp.int32)
    best, where = lax.fori_loop(0, down * across, visit, (lowest, nowhere))
    empty = ((tall == 0) | (wide == 0))[:, None]
    return jnp.where(empty, 0, best), jnp.where(empty, height * width, where)


def _take(table, rows):
    return table.at[rows].get(mode="promise_in_bounds")


def _better(value, cell, other_value, other_cell):
    """The larger of two values and its cell; of equal ones the earlier cell."""
    first = (value > other_value) | ((value == other_value) & (cell < other_cell))
    return jnp.maximum(value, other_value), jnp.where(first, cell, other_cell)


def _square_maxima(atlas):
    """Maxima, and their cells, of the squares of 1, 2, 4... cells that begin at each cell: rows [S*Y*X, C]."""
    height, width, channels = atlas.shape
    cell = jnp.arange(height * width, dtype=jnp.int32).reshape(height, width, 1)
    squares = [(atlas, jnp.broadcast_to(cell, atlas.shape))]
    for k in range(_LARGEST_SQUARE):
        value, cell = squares[-1]
        for axis in (0, 1):
            value, cell = _better(value, cell, _shift(value, 2**k, axis), _shift(cell, 2**k, axis))
        squares.append((value, cell))
    values, cells = zip(*squares, strict=True)
    return (
        jnp.stack(values).reshape(-1, channels),
        jnp.stack(cells).reshape(-1, channels),
    )


def _shift(array, by: int, axis: int):
    """Moves content towards the start; what enters at the end is only in squares that leave the atlas."""
    return jnp.roll(array, -by, axis)


def _maxima_forward(atlas, rectangles):
    best, cells = _maxima_and_cells(atlas, rectangles)
    return best, (cells, atlas[..., :0])


def _maxima_backward(residuals, gradient):
    cells, like = residuals
    height, width = like.shape[:2]
    channels = gradient.shape[-1]
    place = cells * channels + jnp.arange(channels, dtype=jnp.int32)
    # Cells of empty rectangles lie just past the end and are dropped.
    summed = jnp.zeros(height * width * channels, gradient.dtype)
    summed = summed.at[place.reshape(-1)].add(gradient.reshape(-1), mode="drop")
    return summed.reshape(height, width, channels), None


rectangle_maxima.defvjp(_maxima_forward, _maxima_backward)
