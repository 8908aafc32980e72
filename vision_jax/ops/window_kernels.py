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
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap, sequential_vmap
from jaxtyping import Array, Float, Int, Num

from vision_jax.ops.arguments import lowest

# Below it, computing places anew for each channel is faster than writing them to memory first.
_MANY_CHANNELS = 16
# Up to so many channels, each is read by an expression of its own; more are read by rows of half as many.
_LANES = 32


def _cut(array, corner, shape):
    """A part of an array; the corner is never negative, at which JAX need not look."""
    return lax.dynamic_slice(array, [jnp.int32(i) for i in corner], shape, allow_negative_indices=False)


def _put(array, part, corner):
    """The array with a part changed, likewise."""
    corner = [jnp.int32(i) for i in corner]
    return lax.dynamic_update_slice(array, part, corner, allow_negative_indices=False)


@jax.custom_vjp
def window_sums(
    atlas: Num[Array, "y x c"], corners: Int[Array, "n s 2"], weights: Float[Array, "n s 2 2"]
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

    def add_window(k, summed):
        n, s = k // per_sum, k % per_sum
        place = (corners[n, s, 0], corners[n, s, 1], 0)
        cells = weights[n, s][..., None] * gradient[n]
        return _put(summed, _cut(summed, place, cells.shape) + cells, place)

    summed = jnp.zeros((*like.shape[:2], gradient.shape[1]), gradient.dtype)
    return lax.fori_loop(0, sums * per_sum, add_window, summed)


def _spread_at_once(like, corners, weights, gradient):
    """Adds all windows' shares by one scatter."""
    cell = jnp.arange(2)
    rows = corners[:, :, 0, None, None] + cell[:, None]
    columns = corners[:, :, 1, None, None] + cell
    shares = weights[..., None] * gradient[:, None, None, None, :]
    summed = jnp.zeros((*like.shape[:2], gradient.shape[1]), gradient.dtype)
    return summed.at[rows, columns].add(shares, mode="promise_in_bounds")


window_sums.defvjp(_window_sums_forward, _window_sums_backward)


def _as_one_list(of_samples: Callable) -> Callable:
    """Under `vmap`, images one above the other are one atlas, and all samples one list.

    Args:
        of_samples: (atlas, rows, other arrays of samples) -> arrays, of samples or, for an atlas without
            channels, of its shape.
    """
    of_samples = custom_vmap(of_samples)

    @of_samples.def_vmap
    def _of_many(size, batched, *arrays):
        one_is_read_by_all = not batched[0] and arrays[0].size > 0
        atlas, rows, *others = [
            array if is_batched else jnp.broadcast_to(array, (size, *array.shape))
            for array, is_batched in zip(arrays, batched, strict=True)
        ]
        if not one_is_read_by_all:
            rows = rows + jnp.arange(size, dtype=rows.dtype)[:, None] * atlas.shape[1]
        merged = [array.reshape(size * array.shape[1], *array.shape[2:]) for array in (atlas, rows, *others)]
        if one_is_read_by_all:
            merged[0] = arrays[0]
        found = of_samples(*merged)
        found = [array.reshape(size, len(array) // size, *array.shape[1:]) for array in found]
        return found, [True] * len(found)

    return of_samples


class Windows(NamedTuple):
    """Windows of 2 x 2 cells, and a place in each.

    Attributes:
        rows, columns: of each window's first cell; the whole window is inside the atlas.
        down, across: how far the place is from that cell's centre: 1 at the last cell's centre; at -1 and at
            2 nothing of the window is left.
    """

    rows: Int[Array, " n"]
    columns: Int[Array, " n"]
    down: Float[Array, " n"]
    across: Float[Array, " n"]


def window_samples(atlas: Num[Array, "y x c"], windows: Windows) -> Float[Array, "n c"]:
    """Bilinear samples at the places in windows, around which are zeros.

    Args:
        atlas: the features.
        windows: one for each sample.

    Returns:
        The samples, in the dtype of `down`.
    """
    return _samples(atlas, *windows)[0]


@_as_one_list
def _samples(atlas, rows, columns, down, across):
    channels = atlas.shape[-1]
    if channels >= _MANY_CHANNELS:
        rows, columns, down, across = lax.optimization_barrier((rows, columns, down, across))
    total = jnp.zeros((len(rows), channels), down.dtype)
    cells = _cells(atlas, rows * atlas.shape[1] + columns)
    for dy, y in enumerate(_hats(down)):
        for dx, x in enumerate(_hats(across)):
            total = total + cells(dy, dx) * (y * x)[:, None]
    return [total]


def _cells(atlas, first):
    """(dy, dx) -> that cell of each window, of all channels [N, C] or, of a plane, like `first`.

    The same place in four views of the atlas, so that it is computed once, not four times.

    Args:
        atlas: the features, or one channel's.
        first: the number of each window's first cell among all.
    """
    height, width, *channels = atlas.shape
    cells = atlas.reshape(-1, *channels)
    count = (height - 1) * width - 1  # of possible first cells

    def of(dy, dx):
        seen = lax.slice_in_dim(cells, dy * width + dx, dy * width + dx + count)
        return seen.at[first].get(mode="promise_in_bounds", wrap_negative_indices=False)

    return of


def _hats(place):
    """The weights of a window's first and last cell, along one axis."""
    return jnp.maximum(1 - jnp.abs(place), 0), jnp.maximum(1 - jnp.abs(1 - place), 0)


def _hat_slopes(place):
    """How those weights change with the place; on a border as on its far side."""
    first = jnp.where(place < 0, 1.0, jnp.where(place < 1, -1.0, 0.0))
    last = jnp.where(place < 0, 0.0, jnp.where(place < 1, 1.0, -1.0))
    return first, last


def spread_window_samples(
    like: Float[Array, "y x 0"], windows: Windows, gradient: Float[Array, "n c"]
) -> Float[Array, "y x c"]:
    """The atlas's gradient, from that of `window_samples`.

    Args:
        like: the atlas without its channels.
        windows: of the samples.
        gradient: of the samples.
    """
    return _spread_samples(like, *windows, gradient)[0]


@_as_one_list
def _spread_samples(*arrays):
    return lax.platform_dependent(*arrays, cpu=_spread_samples_in_turn, default=_spread_samples_at_once)


def _spread_samples_in_turn(like, rows, columns, down, across, gradient):
    """Adds each sample's share to its window's cells in place."""
    height, width, _ = like.shape
    first = rows * width + columns

    def add_window(k, summed):
        place, share = _cut(first, (k,), (1,))[0], _cut(gradient, (k, 0), (1, gradient.shape[1]))
        for dy, y in enumerate(_hats(_cut(down, (k,), (1,)))):
            for dx, x in enumerate(_hats(_cut(across, (k,), (1,)))):
                cell = (place + (dy * width + dx), 0)
                summed = _put(summed, _cut(summed, cell, share.shape) + share * (y * x)[:, None], cell)
        return summed

    summed = jnp.zeros((height * width, gradient.shape[1]), gradient.dtype)
    return [lax.fori_loop(0, len(rows), add_window, summed, unroll=2).reshape(height, width, -1)]


def _spread_samples_at_once(like, rows, columns, down, across, gradient):
    y, x = (jnp.stack(_hats(place), -1) for place in (down, across))
    weights = (y[:, :, None] * x[:, None])[:, None]
    return [_spread_at_once(like, jnp.stack([rows, columns], -1)[:, None], weights, gradient)]


def window_slopes(
    atlas: Float[Array, "y x c"], windows: Windows, gradient: Float[Array, "n c"]
) -> Float[Array, "n 2"]:
    """The gradients of (`across`, `down`), from that of `window_samples`.

    Args:
        atlas: the features.
        windows: of the samples.
        gradient: of the samples.
    """
    return _slopes(atlas, *windows, gradient)[0]


@_as_one_list
def _slopes(atlas, rows, columns, down, across, gradient):
    of_few = atlas.shape[-1] <= _LANES
    return [(_slopes_by_channel if of_few else _slopes_by_lane)(atlas, rows, columns, down, across, gradient)]


def _slopes_by_channel(atlas, rows, columns, down, across, gradient):
    """Of both axes as one array: XLA makes one loop of it, which reads each cell once for both."""
    pairs = (len(rows), 2)
    first = jnp.broadcast_to((rows * atlas.shape[1] + columns)[:, None], pairs)
    planes = [_cells(atlas[..., c], first) for c in range(atlas.shape[-1])]
    is_across = lax.broadcasted_iota(jnp.int32, pairs, 1) == 0
    total = jnp.zeros(pairs, down.dtype)
    for dy, dx, of_down, of_across in _corner_slopes(down[:, None], across[:, None]):
        share = sum(plane(dy, dx) * gradient[:, c, None] for c, plane in enumerate(planes))
        total = total + share * jnp.where(is_across, of_across, of_down)
    return total


def _slopes_by_lane(atlas, rows, columns, down, across, gradient):
    """Adds up to 16 parts of the channels, many numbers at a time; what is left XLA adds one by one."""
    channels = atlas.shape[-1]
    lanes = max(_LANES // 2, -(-channels // 16))
    first = rows * atlas.shape[1] + columns
    starts = range(0, channels, lanes)
    parts = [_cells(atlas[..., i : i + lanes], first) for i in starts]

    def padded(part):
        return jnp.pad(part, ((0, 0), (0, lanes - part.shape[1])))

    totals = [jnp.zeros((len(rows), lanes), down.dtype)] * 2
    for dy, dx, *slopes in _corner_slopes(down, across):
        share = sum(
            padded(part(dy, dx) * gradient[:, i : i + lanes]) for i, part in zip(starts, parts, strict=True)
        )
        totals = [total + share * slope[:, None] for total, slope in zip(totals, slopes, strict=True)]
    of_down, of_across = (total.sum(1) for total in totals)
    return jnp.stack([of_across, of_down], -1)


def _corner_slopes(down, across):
    """Each cell (dy, dx) of a window, and how its weight changes with `down` and with `across`."""
    for dy, (y, to_y) in enumerate(zip(_hats(down), _hat_slopes(down), strict=True)):
        for dx, (x, to_x) in enumerate(zip(_hats(across), _hat_slopes(across), strict=True)):
            yield dy, dx, to_y * x, y * to_x


@jax.custom_vjp
def rectangle_maxima(atlas: Num[Array, "y x c"], rectangles: Int[Array, "n 4"]) -> Num[Array, "n c"]:
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

    best = jnp.full((len(rectangles), cells.shape[1]), lowest(atlas.dtype), atlas.dtype)
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
