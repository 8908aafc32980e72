"""The inner loops of RoIAlign, RoIPool and bilinear sampling: sums and maxima of small rectangles of a map.

All read an *atlas* [Y, X, C]: an image or feature map, or a pyramid's maps one above the other. They know
nothing of boxes or transforms, only where to read. What is unusual in them is for speed, measured at 512
boxes of 7 x 7 bins on 50 x 50 x 256 features:

- A sum of gathers that differ only in their indices compiles to one loop over channels; the same gather
  with an axis to sum over does not, and takes ten times as long.
- XLA on the CPU merges the gathers into a matrix product or a sum that reads them, and gathers anew for every
  tile of it; what is the result of a loop, or stands behind a barrier, cannot be merged.
- XLA compiles the gradient of a gather, a scatter, to a slow loop on the CPU; a loop that adds windows in
  place takes a tenth of its time. On other devices the scatter is the form that runs in parallel.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap, sequential_vmap
from jaxtyping import Array, Float, Int

# Below it, computing places anew for each channel is faster than writing them to memory first.
_MANY_CHANNELS = 16


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
    return _by_image(_sum_by_parts, _sum_at_once, atlas, corners, weights)


def _sum_by_parts(atlas, corners, weights):
    """Sums one eighth of the windows after the other."""

    def cut(array):
        padded = jnp.pad(array, ((0, -len(array) % 8), *[(0, 0)] * (array.ndim - 1)))
        return padded.reshape(8, -1, *array.shape[1:])

    sums = lax.map(lambda part: _sum_at_once(atlas, *part), (cut(corners), cut(weights)))
    return sums.reshape(-1, sums.shape[-1])[: len(corners)]


def _sum_at_once(atlas, corners, weights):
    height, width, channels = atlas.shape
    rows = atlas.reshape(height * width, channels)
    first = corners[..., 0] * width + corners[..., 1]

    def add_window(s, total):
        for dy in (0, 1):
            for dx in (0, 1):
                cells = rows.at[first[:, s] + (dy * width + dx)].get(mode="promise_in_bounds")
                total = total + cells * weights[:, s, dy, dx, None]
        # A pass for each window: four gathers in one loop are faster than all sixteen.
        return lax.optimization_barrier(total)

    total = jnp.zeros((corners.shape[0], channels), weights.dtype)
    return lax.fori_loop(0, corners.shape[1], add_window, total, unroll=4)


def _window_sums_forward(atlas, corners, weights):
    # The features themselves are not needed again, only their shape and dtype.
    return window_sums(atlas, corners, weights), (atlas[..., :0], corners, weights)


def _window_sums_backward(residuals, gradient):
    like, corners, weights = residuals
    spread = _by_image(_spread_in_turn, _spread_at_once, like, corners, weights, gradient)
    return spread.astype(like.dtype), None, None


def _spread_in_turn(like, corners, weights, gradient):
    """Adds each window's share in place, one after the other, up to the last that has any."""
    per_sum = corners.shape[1]
    shares = jnp.any(weights != 0, axis=(1, 2, 3))
    sums = jnp.max(jnp.where(shares, jnp.arange(1, len(shares) + 1), 0), initial=0)

    def share(k):
        n, s = k // per_sum, k % per_sum
        return corners[n, s, 0], corners[n, s, 1], weights[n, s][..., None] * gradient[n]

    return _add_windows(like, share, sums * per_sum, gradient)


def _add_windows(like, share: Callable, count, gradient):
    """Adds windows in place, one after the other: share(k) -> its first row and column, and its cells."""

    def add_window(k, summed):
        row, column, cells = share(k)
        place = (row, column, jnp.int32(0))
        window = lax.dynamic_slice(summed, place, cells.shape)
        return lax.dynamic_update_slice(summed, window + cells, place)

    summed = jnp.zeros((*like.shape[:2], gradient.shape[1]), gradient.dtype)
    return lax.fori_loop(0, count, add_window, summed)


def _spread_at_once(like, corners, weights, gradient):
    """Adds all windows' shares by one scatter."""
    cell = jnp.arange(2)
    rows = corners[:, :, 0, None, None] + cell[:, None]
    columns = corners[:, :, 1, None, None] + cell
    shares = weights[..., None] * gradient[:, None, None, None, :]
    summed = jnp.zeros((*like.shape[:2], gradient.shape[1]), gradient.dtype)
    return summed.at[rows, columns].add(shares, mode="promise_in_bounds")


window_sums.defvjp(_window_sums_forward, _window_sums_backward)


@jax.custom_vjp
def window_samples(
    atlas: Float[Array, "y x c"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    down: Float[Array, " n"],
    across: Float[Array, " n"],
) -> Float[Array, "n c"]:
    """Bilinear samples, one from each window of 2 x 2 cells.

    Atlas, `down` and `across` receive gradients.

    Args:
        atlas: the features.
        rows, columns: of each window's first cell; the whole window is inside the atlas.
        down, across: where in the window the sample is: 0 at the centre of its first cell, 1 at its last's.

    Returns:
        The samples, in the dtype of `down`.
    """
    return _samples(atlas, rows, columns, down, across)


@custom_vmap
def _samples(atlas, rows, columns, down, across):
    channels = atlas.shape[-1]
    cells = atlas.reshape(-1, channels)
    if channels >= _MANY_CHANNELS:
        rows, columns, down, across = lax.optimization_barrier((rows, columns, down, across))
    first = rows * atlas.shape[1] + columns
    total = jnp.zeros((len(rows), channels), down.dtype)
    for dy, dx, share in _shares(down, across):
        cell = cells.at[first + (dy * atlas.shape[1] + dx)].get(mode="promise_in_bounds")
        total = total + cell * share[:, None]
    return total


@_samples.def_vmap
def _samples_of_many(size, batched, atlas, rows, columns, down, across):
    """Images one above the other are one atlas, and all samples one list: one gather, of rows alone."""
    places = [
        place if is_batched else jnp.broadcast_to(place, (size, *place.shape))
        for place, is_batched in zip((rows, columns, down, across), batched[1:], strict=True)
    ]
    if batched[0]:
        places[0] = places[0] + jnp.arange(size, dtype=places[0].dtype)[:, None] * atlas.shape[1]
        atlas = atlas.reshape(-1, *atlas.shape[2:])
    samples = _samples(atlas, *(place.reshape(-1) for place in places))
    return samples.reshape(size, -1, samples.shape[-1]), True


def _shares(down, across):
    """Each cell of a window, as (dy, dx), and its weight."""
    return [
        (dy, dx, y * x) for dy, y in ((0, 1 - down), (1, down)) for dx, x in ((0, 1 - across), (1, across))
    ]


def _window_samples_forward(*arrays):
    return window_samples(*arrays), arrays


def _window_samples_backward(residuals, gradient):
    atlas, rows, columns, down, across = lax.optimization_barrier(residuals)
    places = (rows, columns, down, across, gradient)
    spread = _by_image(_spread_samples_in_turn, _spread_samples_at_once, atlas[..., :0], *places)
    of_down, of_across = _by_image(_slopes_in_turn, _slopes_at_once, atlas, *places)
    return spread.astype(atlas.dtype), None, None, of_down, of_across


def _spread_samples_in_turn(like, rows, columns, down, across, gradient):
    def share(k):
        y, x = jnp.stack([1 - down[k], down[k]]), jnp.stack([1 - across[k], across[k]])
        return rows[k], columns[k], y[:, None, None] * x[None, :, None] * gradient[k]

    return _add_windows(like, share, len(rows), gradient)


def _spread_samples_at_once(like, rows, columns, down, across, gradient):
    weights = jnp.stack([share for _, _, share in _shares(down, across)], -1).reshape(-1, 1, 2, 2)
    return _spread_at_once(like, jnp.stack([rows, columns], -1)[:, None], weights, gradient)


def _slopes_in_turn(atlas, rows, columns, down, across, gradient):
    """How the loss changes with `down` and `across`, one sample after the other: faster here than gathers."""
    height, width, channels = atlas.shape
    cells = atlas.reshape(height * width, channels)

    def look(k, slopes):
        first = rows[k] * width + columns[k]
        upper, lower = (
            (lax.dynamic_slice(cells, (first + dy * width, jnp.int32(0)), (2, channels)) * gradient[k]).sum(1)
            for dy in (0, 1)
        )
        found = _slope(upper[0], upper[1], lower[0], lower[1], down[k], across[k])
        return tuple(lax.dynamic_update_slice(s, f[None], (k,)) for s, f in zip(slopes, found, strict=True))

    nothing = jnp.zeros(len(rows), gradient.dtype)
    return lax.fori_loop(0, len(rows), look, (nothing, nothing))


def _slopes_at_once(atlas, rows, columns, down, across, gradient):
    cells = atlas.reshape(-1, atlas.shape[-1])
    first = rows * atlas.shape[1] + columns

    def along(dy, dx):
        at = first + (dy * atlas.shape[1] + dx)
        return (cells.at[at].get(mode="promise_in_bounds") * gradient).sum(1)

    return _slope(along(0, 0), along(0, 1), along(1, 0), along(1, 1), down, across)


def _slope(upper_left, upper_right, lower_left, lower_right, down, across):
    return (
        (lower_left - upper_left) * (1 - across) + (lower_right - upper_right) * across,
        (upper_right - upper_left) * (1 - down) + (lower_right - lower_left) * down,
    )


window_samples.defvjp(_window_samples_forward, _window_samples_backward)


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
    return _by_image(_maxima, _maxima, atlas, rectangles)


def _maxima(atlas, rectangles):
    cells = atlas.reshape(-1, atlas.shape[-1])

    def look(best, place):
        return jnp.maximum(best, cells.at[place].get(mode="promise_in_bounds"))

    best = jnp.full((len(rectangles), cells.shape[1]), -jnp.inf, atlas.dtype)
    best = _visit(rectangles, atlas.shape[1], look, best)
    return jnp.where(_is_empty(rectangles)[:, None], 0, best)


def _first_cells(atlas, rectangles, best):
    """The first cell, as y * X + x, that holds each channel's maximum; Y * X for an empty rectangle."""
    cells = atlas.reshape(-1, atlas.shape[-1])

    def look(first, place):
        found = cells.at[place].get(mode="promise_in_bounds") == best
        return jnp.where(found, jnp.minimum(first, place[:, None]), first)

    first = _visit(rectangles, atlas.shape[1], look, jnp.full(best.shape, len(cells), jnp.int32))
    return jnp.where(_is_empty(rectangles)[:, None], len(cells), first)


def _visit(rectangles, width: int, look, state):
    """Calls `look(state, y * width + x)` for all cells of all rectangles, those of one place together.

    Cells are visited in blocks of 3 x 3, as often as the largest rectangle needs; small ones see their last
    cells again and again. What is looked up for an empty rectangle means nothing.
    """
    top, bottom, left, right = rectangles.T
    down = jnp.max(-(-(bottom - top) // 3), initial=0)
    across = jnp.max(-(-(right - left) // 3), initial=0)

    def block(step, state):
        rows = [jnp.minimum(top + 3 * (step // across) + k, bottom - 1) * width for k in range(3)]
        columns = [jnp.minimum(left + 3 * (step % across) + k, right - 1) for k in range(3)]
        for row in rows:
            for column in columns:
                state = look(state, jnp.maximum(row + column, 0))
        return state

    return lax.fori_loop(0, down * across, block, state)


def _is_empty(rectangles):
    top, bottom, left, right = rectangles.T
    return (bottom <= top) | (right <= left)


def _maxima_forward(atlas, rectangles):
    best = rectangle_maxima(atlas, rectangles)
    return best, (atlas, rectangles, best)


def _maxima_backward(residuals, gradient):
    return _by_image(_return_to_first, _return_to_first, *residuals, gradient), None


def _return_to_first(atlas, rectangles, best, gradient):
    channels = atlas.shape[-1]
    place = _first_cells(atlas, rectangles, best) * channels + jnp.arange(channels, dtype=jnp.int32)
    # The cell of an empty rectangle lies just past the end and is dropped.
    summed = jnp.zeros(atlas.size, gradient.dtype)
    return summed.at[place.reshape(-1)].add(gradient.reshape(-1), mode="drop").reshape(atlas.shape)


rectangle_maxima.defvjp(_maxima_forward, _maxima_backward)


def _by_image(on_cpu, elsewhere, *arrays):
    """Calls the kernel for the device; under `vmap` the CPU takes one image after the other.

    Its caches hold one image's features, and a loop over windows in place, once batched, would scatter.
    """
    return lax.platform_dependent(*arrays, cpu=sequential_vmap(on_cpu), default=elsewhere)
