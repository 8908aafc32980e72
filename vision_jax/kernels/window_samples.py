"""The inner loops of bilinear sampling: samples of a map between its cells, and both their gradients.

As in `window_sums` all read an atlas [Y, X, C] and know nothing of transforms, only where to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int, Num

from vision_jax.kernels.in_place import read_part, write_part
from vision_jax.kernels.window_sums import spread_at_once

# Below it, computing positions anew for each channel is faster than writing them to memory first.
_MANY_CHANNELS = 16
# Up to so many channels, each is read by an expression of its own; more are read by rows of half as many.
_LANES = 32


def _as_one_list(of_samples: Callable[..., list[Array]]) -> Callable[..., list[Array]]:
    """Under `vmap`, images one above the other are one atlas, and all samples one list.

    Args:
        of_samples: (atlas, rows, other arrays of samples) -> arrays, of samples or, for an atlas without
            channels, of its shape.
    """
    of_samples = custom_vmap(of_samples)

    @of_samples.def_vmap
    def _of_many(size: int, batched: Sequence[bool], *arrays: Array) -> tuple[list[Array], list[bool]]:
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
    """Windows of 2 x 2 cells, and a position in each.

    Attributes:
        rows, columns: int32, of each window's first cell; the whole window is inside the atlas.
        down, across: how far the position is from that cell's center, in cells: 1 at the last cell's center;
            at -1 and at 2 nothing of the window is left.
    """

    rows: Int[Array, " n"]
    columns: Int[Array, " n"]
    down: Float[Array, " n"]
    across: Float[Array, " n"]


def window_samples(atlas: Num[Array, "y x c"], windows: Windows) -> Float[Array, "n c"]:
    """Bilinear samples at the positions in windows, around which are zeros.

    Args:
        atlas: the features.
        windows: one for each sample.

    Returns:
        The samples, in the dtype of `down`.
    """
    return _samples(atlas, *windows)[0]


@_as_one_list
def _samples(
    atlas: Num[Array, "y x c"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    down: Float[Array, " n"],
    across: Float[Array, " n"],
) -> list[Float[Array, "n c"]]:
    """`window_samples` of one list."""
    channels = atlas.shape[-1]
    if channels >= _MANY_CHANNELS:
        rows, columns, down, across = lax.optimization_barrier((rows, columns, down, across))
    total = jnp.zeros((len(rows), channels), down.dtype)
    cells = _cells(atlas, rows * atlas.shape[1] + columns)
    for dy, y in enumerate(_hats(down)):
        for dx, x in enumerate(_hats(across)):
            total = total + cells(dy, dx) * (y * x)[:, None]
    return [total]


def _cells(atlas: Num[Array, "y x *c"], first: Int[Array, "n ..."]) -> Callable[[int, int], Array]:
    """(dy, dx) -> that cell of each window, of all channels [N, C] or, of a plane, like `first`.

    The same index into four views of the atlas, so that it is computed once, not four times.

    Args:
        atlas: the features, or one channel's.
        first: the number of each window's first cell among all.
    """
    height, width, *channels = atlas.shape
    cells = atlas.reshape(-1, *channels)
    count = (height - 1) * width - 1  # of possible first cells

    def of(dy: int, dx: int) -> Array:
        seen = lax.slice_in_dim(cells, dy * width + dx, dy * width + dx + count)
        return seen.at[first].get(mode="promise_in_bounds", wrap_negative_indices=False)

    return of


def _hats(offset: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """The weights of a window's first and last cell, along one axis."""
    return jnp.maximum(1 - jnp.abs(offset), 0), jnp.maximum(1 - jnp.abs(1 - offset), 0)


def _hat_slopes(offset: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """How those weights change with the offset; on a border as on its far side."""
    first = jnp.where(offset < 0, 1.0, jnp.where(offset < 1, -1.0, 0.0))
    last = jnp.where(offset < 0, 0.0, jnp.where(offset < 1, 1.0, -1.0))
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
def _spread_samples(*arrays: Array) -> list[Array]:
    """`spread_window_samples` of one list."""
    return lax.platform_dependent(*arrays, cpu=_spread_samples_in_turn, default=_spread_samples_at_once)


def _spread_samples_in_turn(
    like: Num[Array, "y x 0"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    down: Float[Array, " n"],
    across: Float[Array, " n"],
    gradient: Float[Array, "n c"],
) -> list[Float[Array, "y x c"]]:
    """Adds each sample's gradient to its window's cells in place, one sample after the other."""
    height, width, _ = like.shape
    first = rows * width + columns

    def add_window(k, summed):
        cell, of_sample = read_part(first, (k,), (1,))[0], read_part(gradient, (k, 0), (1, gradient.shape[1]))
        for dy, y in enumerate(_hats(read_part(down, (k,), (1,)))):
            for dx, x in enumerate(_hats(read_part(across, (k,), (1,)))):
                corner = (cell + (dy * width + dx), 0)
                before = read_part(summed, corner, of_sample.shape)
                summed = write_part(summed, before + of_sample * (y * x)[:, None], corner)
        return summed

    summed = jnp.zeros((height * width, gradient.shape[1]), gradient.dtype)
    return [lax.fori_loop(0, len(rows), add_window, summed, unroll=2).reshape(height, width, -1)]


def _spread_samples_at_once(
    like: Num[Array, "y x 0"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    down: Float[Array, " n"],
    across: Float[Array, " n"],
    gradient: Float[Array, "n c"],
) -> list[Float[Array, "y x c"]]:
    """Adds all samples' gradients by one scatter."""
    y, x = (jnp.stack(_hats(offset), -1) for offset in (down, across))
    weights = (y[:, :, None] * x[:, None])[:, None]
    return [spread_at_once(like, jnp.stack([rows, columns], -1)[:, None], weights, gradient)]


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
def _slopes(
    atlas: Num[Array, "y x c"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    down: Float[Array, " n"],
    across: Float[Array, " n"],
    gradient: Float[Array, "n c"],
) -> list[Float[Array, "n 2"]]:
    """`window_slopes` of one list."""
    of_few = atlas.shape[-1] <= _LANES
    return [(_slopes_by_channel if of_few else _slopes_by_lane)(atlas, rows, columns, down, across, gradient)]


def _slopes_by_channel(
    atlas: Num[Array, "y x c"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    down: Float[Array, " n"],
    across: Float[Array, " n"],
    gradient: Float[Array, "n c"],
) -> Float[Array, "n 2"]:
    """Of both axes as one array: XLA makes one loop of it, which reads each cell once for both."""
    pairs = (len(rows), 2)
    first = jnp.broadcast_to((rows * atlas.shape[1] + columns)[:, None], pairs)
    planes = [_cells(atlas[..., c], first) for c in range(atlas.shape[-1])]
    is_across = lax.broadcasted_iota(jnp.int32, pairs, 1) == 0
    total = jnp.zeros(pairs, down.dtype)
    for dy, dx, of_down, of_across in _corner_slopes(down[:, None], across[:, None]):
        term = sum(plane(dy, dx) * gradient[:, c, None] for c, plane in enumerate(planes))
        total = total + term * jnp.where(is_across, of_across, of_down)
    return total


def _slopes_by_lane(
    atlas: Num[Array, "y x c"],
    rows: Int[Array, " n"],
    columns: Int[Array, " n"],
    down: Float[Array, " n"],
    across: Float[Array, " n"],
    gradient: Float[Array, "n c"],
) -> Float[Array, "n 2"]:
    """Adds up to 16 parts of the channels, many numbers at a time; what is left XLA adds one by one."""
    channels = atlas.shape[-1]
    lanes = max(_LANES // 2, -(-channels // 16))
    first = rows * atlas.shape[1] + columns
    starts = range(0, channels, lanes)
    parts = [_cells(atlas[..., i : i + lanes], first) for i in starts]

    def padded(part: Array) -> Array:
        return jnp.pad(part, ((0, 0), (0, lanes - part.shape[1])))

    totals = [jnp.zeros((len(rows), lanes), down.dtype)] * 2
    for dy, dx, *slopes in _corner_slopes(down, across):
        term = sum(
            padded(part(dy, dx) * gradient[:, i : i + lanes]) for i, part in zip(starts, parts, strict=True)
        )
        totals = [total + term * slope[:, None] for total, slope in zip(totals, slopes, strict=True)]
    of_down, of_across = (total.sum(1) for total in totals)
    return jnp.stack([of_across, of_down], -1)


def _corner_slopes(
    down: Float[Array, "*n"], across: Float[Array, "*n"]
) -> Iterator[tuple[int, int, Float[Array, "*n"], Float[Array, "*n"]]]:
    """Each cell (dy, dx) of a window, and how its weight changes with `down` and with `across`."""
    for dy, (y, to_y) in enumerate(zip(_hats(down), _hat_slopes(down), strict=True)):
        for dx, (x, to_x) in enumerate(zip(_hats(across), _hat_slopes(across), strict=True)):
            yield dy, dx, to_y * x, y * to_x
