"""Unpooling: by repetition, by zeros, and to where the maxima were.

Max unpooling puts each pooled value back to its switch, the position of the maximum it came from (Zeiler and
Fergus 2014, section 2.1; Noh, Hong and Han 2015, section 3.2; Badrinarayanan, Kendall and Cipolla 2017).

A switch lies in its own window. So a pixel of the large map asks the few windows that reach it whether it is
theirs, which is comparisons of whole maps, where a scatter would go from value to value. All functions are of
one image; `vmap` them. Maps may be of any dtype, which their results have.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce
from itertools import product
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Num

from vision_jax.kernels.dtypes import lowest
from vision_jax.kernels.max_pooling import maxima_by_rows, need_no_rows, read_by_rows

Size = tuple[int, int]


def unpool_nearest(
    features: Num[Array | np.ndarray, "h w c"], stride: int = 2
) -> Num[Array, "{stride}*h {stride}*w c"]:
    """Enlarges a map by repeating each value over its cell: nearest-neighbor upsampling.

    Args:
        features: a feature map.
        stride: rows and columns of a cell, at least 1.

    Returns:
        The larger map, same dtype.

    Raises:
        ValueError: the stride is less than 1.
    """
    _check_stride(stride)
    height, width, channels = features.shape
    cells = jnp.broadcast_to(features[:, None, :, None], (height, stride, width, stride, channels))
    return cells.reshape(height * stride, width * stride, channels)


def unpool_bed_of_nails(
    features: Num[Array | np.ndarray, "h w c"], stride: int = 2
) -> Num[Array, "{stride}*h {stride}*w c"]:
    """Enlarges a map by writing each value to the top left of its cell, and zeros elsewhere.

    Args:
        features: a feature map.
        stride: rows and columns of a cell, at least 1.

    Returns:
        The larger map, same dtype.

    Raises:
        ValueError: the stride is less than 1.
    """
    _check_stride(stride)
    features = jnp.asarray(features)
    between = (0, stride - 1, stride - 1)
    return lax.pad(features, jnp.zeros((), features.dtype), (between, between, (0, 0, 0)))


def _check_stride(stride: int) -> None:
    """A ValueError where the stride is less than 1."""
    if stride < 1:
        raise ValueError(f"stride {stride} is less than 1")


def max_pool_with_argmax(
    features: Num[Array | np.ndarray, "h w c"], size: int = 2, stride: int = 2, padding: int = 0
) -> tuple[Num[Array, "hh ww c"], Int[Array, "hh ww c"]]:
    """Max pooling that says where its maxima were (torch's `max_pool2d` with `return_indices`).

    Reverse-mode differentiable: a window's gradient goes to its argmax alone.

    Args:
        features: a feature map.
        size: of the square windows, in pixels.
        stride: between them, in pixels.
        padding: pixels on each side that are never the largest; at most half of a window.

    Returns: Of `(h + 2 * padding - size) // stride + 1` rows of windows, columns likewise, the largest value;
        and its position: int32, `row * w + column` in the map. Of equal ones it is the first in reading
        order; a NaN is larger than all before it.

    Raises:
        ValueError: the padding is more than half of a window, no window fits into the map, or the window or
            the stride is less than 1.
    """
    _check_stride(stride)
    if size < 1:
        raise ValueError(f"a window of {size} holds no pixel")
    features = jnp.asarray(features)
    if not 0 <= 2 * padding <= size:
        raise ValueError(f"padding {padding} is more than half of a window of {size}")
    height, width, _ = features.shape
    if min(height, width) + 2 * padding < size:
        raise ValueError(
            f"no window of {size} fits into a map of {height}x{width} with a padding of {padding}"
        )
    return cast(tuple[Array, Array], _pool(features, (height, width), size, stride, padding))


def max_unpool(
    values: Num[Array | np.ndarray, "hh ww c"],
    argmax: Int[Array | np.ndarray, "_hh _ww _c"],
    shape: Size,
    size: int = 2,
    stride: int = 2,
    padding: int = 0,
) -> Num[Array, "{shape[0]} {shape[1]} c"]:
    """Puts pooled values back to where their maxima were (torch's `max_unpool2d`).

    Reverse-mode differentiable in `values`.

    Args:
        values: one for each window.
        argmax: of `max_pool_with_argmax`, in the same order.
        shape: (h, w) of the map that was pooled.
        size: of the windows it was pooled in.
        stride: of its pooling.
        padding: of its pooling.

    Returns:
        A map of that shape, zero elsewhere. Of windows that name the same position the last in reading order
        gives its value, and takes the gradient.

    Raises:
        ValueError: values and argmax are not what such a pooling of a map of that shape gives.
    """
    _check_stride(stride)
    values, argmax = jnp.asarray(values), jnp.asarray(argmax)
    windows = _windows(shape, size, stride, padding)
    if not values.shape[:2] == argmax.shape[:2] == windows or values.shape != argmax.shape:
        raise ValueError(
            f"a map of {list(shape)} pooled by windows of {size}, stride {stride} and padding {padding} has "
            f"{list(windows)} windows, but values are {list(values.shape)}, argmax {list(argmax.shape)}"
        )
    return cast(Array, _unpool(values, argmax, shape, size, stride, padding))


def _maxima(
    features: Num[Array, "h w c"], shape: Size, size: int, stride: int, padding: int
) -> tuple[Num[Array, "hh ww c"], Int[Array, "hh ww c"]]:
    """Each window's maximum and its position."""
    at_once = partial(_maxima_at_once, shape=shape, size=size, stride=stride, padding=padding)
    if need_no_rows(size, stride, padding):
        return at_once(features)
    by_rows = partial(maxima_by_rows, _first_largest, fill=lowest(features.dtype), **at_once.keywords)
    return lax.platform_dependent(features, cpu=by_rows, default=at_once)


def _maxima_at_once(
    features: Num[Array, "h w c"], *, shape: Size, size: int, stride: int, padding: int
) -> tuple[Num[Array, "hh ww c"], Int[Array, "hh ww c"]]:
    """The definition: comparisons of the map with itself, shifted by each tap."""
    rows, columns = _windows(shape, size, stride, padding)
    top, left = _begins(rows, stride, padding), _begins(columns, stride, padding)
    features = _bordered(features, (rows, columns), size, stride, padding, lowest(features.dtype))
    taps = (
        (_under(features, i, j, rows, columns, stride), _positions(top + i, left + j, shape))
        for i, j in product(range(size), repeat=2)
    )
    return _first_largest(taps, _positions(jnp.maximum(top, 0), jnp.maximum(left, 0), shape))


def _windows(shape: Size, size: int, stride: int, padding: int) -> Size:
    """How many rows and columns of windows there are."""
    height, width = shape
    return (height + 2 * padding - size) // stride + 1, (width + 2 * padding - size) // stride + 1


def _begins(windows: int, stride: int, padding: int) -> Int[Array, " n"]:
    """The first row (column) of each window."""
    return jnp.arange(windows, dtype=jnp.int32) * stride - padding


def _positions(rows: Int[Array, " hh"], columns: Int[Array, " ww"], shape: Size) -> Int[Array, "hh ww 1"]:
    """Positions in a map of that shape: row * w + column."""
    return (rows[:, None] * shape[1] + columns)[..., None]


def _bordered(
    features: Num[Array, "h w c"], windows: Size, size: int, stride: int, padding: int, fill: Any
) -> Num[Array, "_h _w c"]:
    """As much of the map as lies under windows, with its border, which holds `fill`."""
    around = (
        (padding, (count - 1) * stride + size - padding - length, 0)
        for count, length in zip(windows, features.shape[:2], strict=True)
    )
    return lax.pad(features, jnp.asarray(fill, features.dtype), (*around, (0, 0, 0)))


def _under(
    features: Num[Array, "h w c"], i: int, j: int, rows: int, columns: int, stride: int
) -> Num[Array, "{rows} {columns} c"]:
    """What lies under tap (i, j) of each window."""
    last = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
    return features[i : last[0] : stride, j : last[1] : stride]


def _first_largest(
    taps: Iterator[tuple[Array, Array]], inside: Int[Array, "hh ww 1"]
) -> tuple[Num[Array, "hh ww c"], Int[Array, "hh ww c"]]:
    """The largest of taps in reading order and its position; `inside`, one in the map, if all are -inf."""
    largest, _ = next(taps)
    argmax = jnp.broadcast_to(inside, largest.shape)
    for tap, positions in taps:
        larger = (tap > largest) | (tap != tap)  # a NaN differs from itself
        largest = jnp.where(larger, tap, largest)
        argmax = jnp.where(larger, positions, argmax)
    return largest, argmax


def _spread(
    values: Num[Array, "hh ww c"],
    argmax: Int[Array, "hh ww c"],
    shape: Size,
    size: int,
    stride: int,
    padding: int,
    add: bool,
) -> Num[Array, "{shape[0]} {shape[1]} c"]:
    """Each value at its argmax: the last of them, or their sum.

    The large map is cut into cells of the stride; those of a window, and of the windows up to `reach` before
    it, are asked together.
    """
    rows, columns = (-(-(length + padding) // stride) for length in shape)
    down, across = _begins(rows * stride, 1, padding), _begins(columns * stride, 1, padding)
    positions = _positions(down, across, shape).reshape(rows, stride, columns, stride, 1)
    reach = range(-(-size // stride) - 1, -1, -1)
    total = jnp.zeros((*positions.shape[:-1], values.shape[-1]), values.dtype)
    for before in product(reach, reach):  # windows in reading order
        moved_values, moved_argmax = (
            _moved(of, before, rows, columns, fill)[:, None, :, None]
            for of, fill in ((values, 0), (argmax, -1))
        )
        theirs = positions == moved_argmax
        total = jnp.where(theirs, total + moved_values if add else moved_values, total)
    total = total.reshape(rows * stride, columns * stride, -1)
    return total[padding : padding + shape[0], padding : padding + shape[1]]


def _moved(
    of: Num[Array, "hh ww c"], by: tuple[int, int], rows: int, columns: int, fill: int
) -> Num[Array, "{rows} {columns} c"]:
    """A map moved down and right by `by`, on a grid of so many rows and columns; `fill` elsewhere."""
    down, right = by
    rows, columns = rows - down - of.shape[0], columns - right - of.shape[1]
    return lax.pad(of, jnp.asarray(fill, of.dtype), ((down, rows, 0), (right, columns, 0), (0, 0, 0)))


def _read(
    features: Num[Array, "h w c"],
    argmax: Int[Array, "hh ww c"],
    shape: Size,
    size: int,
    stride: int,
    padding: int,
) -> Num[Array, "hh ww c"]:
    """Of each window what lies at its argmax; 0 where that is -1."""
    at_once = partial(_read_at_once, shape=shape, size=size, stride=stride, padding=padding)
    if need_no_rows(size, stride, padding):
        return at_once(features, argmax)
    by_rows = partial(read_by_rows, _chosen, **at_once.keywords)
    return lax.platform_dependent(features, argmax, cpu=by_rows, default=at_once)


def _read_at_once(
    features: Num[Array, "h w c"],
    argmax: Int[Array, "hh ww c"],
    *,
    shape: Size,
    size: int,
    stride: int,
    padding: int,
) -> Num[Array, "hh ww c"]:
    """The definition: comparisons of the argmax with the position under each tap."""
    rows, columns = argmax.shape[:2]
    top, left = _begins(rows, stride, padding), _begins(columns, stride, padding)
    features = _bordered(features, (rows, columns), size, stride, padding, 0)
    taps = (
        (_under(features, i, j, rows, columns, stride), _positions(top + i, left + j, shape))
        for i, j in product(range(size), repeat=2)
    )
    return _chosen(taps, argmax)


def _chosen(taps: Iterator[tuple[Array, Array]], argmax: Int[Array, "hh ww c"]) -> Num[Array, "hh ww c"]:
    """The tap that lies at the argmax; 0 where that is -1.

    A sum, for in a window wider than the map a position of the border, which is 0, can share an index with
    one inside.
    """
    return reduce(jnp.add, (jnp.where(argmax == positions, tap, 0) for tap, positions in taps))


def _is_last(argmax: Int[Array, "hh ww c"], size: int, stride: int) -> Bool[Array, "hh ww c"]:
    """Whether no later window in reading order names the same position."""
    reach = -(-size // stride) - 1
    last = jnp.ones(argmax.shape, bool)
    for down, right in product(range(reach + 1), range(-reach, reach + 1)):
        if (down, right) > (0, 0):
            last &= argmax != _moved(argmax, (-down, -right), *argmax.shape[:2], fill=-1)
    return last


_pool = jax.custom_vjp(_maxima, nondiff_argnums=(1, 2, 3, 4))
_unpool = jax.custom_vjp(partial(_spread, add=False), nondiff_argnums=(2, 3, 4, 5))


def _maxima_with_residuals(
    features: Num[Array, "h w c"], *windows: Any
) -> tuple[tuple[Num[Array, "hh ww c"], Int[Array, "hh ww c"]], Int[Array, "hh ww c"]]:
    """The maxima and their positions, and what the gradient needs."""
    values, argmax = _maxima(features, *windows)
    return (values, argmax), argmax


def _gradient_of_maxima(
    shape: Size,
    size: int,
    stride: int,
    padding: int,
    argmax: Int[Array, "hh ww c"],
    g: tuple[Num[Array, "hh ww c"], Any],
) -> tuple[Num[Array, "{shape[0]} {shape[1]} c"]]:
    """Each window's gradient, added at its argmax."""
    return (_spread(g[0], argmax, shape, size, stride, padding, add=True),)


def _spread_with_residuals(
    values: Num[Array, "hh ww c"], argmax: Int[Array, "hh ww c"], *windows: Any
) -> tuple[Num[Array, "_h _w c"], Int[Array, "hh ww c"]]:
    """The large map, and what the gradient needs."""
    return _spread(values, argmax, *windows, add=False), argmax


def _gradient_of_spread(
    shape: Size,
    size: int,
    stride: int,
    padding: int,
    argmax: Int[Array, "hh ww c"],
    g: Num[Array, "h w c"],
) -> tuple[Num[Array, "hh ww c"], None]:
    """Each value's gradient: what lies at its argmax, unless a later window wrote there."""
    written = jnp.where(_is_last(argmax, size, stride), argmax, -1)
    return _read(g, written, shape, size, stride, padding), None


_pool.defvjp(_maxima_with_residuals, _gradient_of_maxima)
_unpool.defvjp(_spread_with_residuals, _gradient_of_spread)
