"""Max pooling with its argmax, a row of windows at a time.

Where windows overlap or reach over the border, XLA on the CPU finds each window's maximum anew for all that
ask for it, which are many when it is unpooled. A loop over rows of windows keeps it from that, and needs no
padded copy of the map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Num

# What lies under one tap of each window [1, ww, c], and where: int32 row * w + column [1, ww, 1].
Tap = tuple[Array, Array]
Size = tuple[int, int]


def need_no_rows(size: int, stride: int, padding: int) -> bool:
    """Whether windows share nothing and need no border, so that all at once are as fast."""
    return size <= stride and padding == 0


def maxima_by_rows(
    first_largest: Callable[[Iterator[Tap], Array], tuple[Array, Array]],
    features: Num[Array, "h w c"],
    *,
    shape: Size,
    size: int,
    stride: int,
    padding: int,
    fill: Any,
) -> tuple[Num[Array, "hh ww c"], Int[Array, "hh ww c"]]:
    """Each window's maximum and its position.

    Args:
        first_largest: (taps, a position inside each window [1, ww, 1]) -> the largest tap and its position.
        features: a map.
        shape: (h, w).
        size: of the square windows, in pixels.
        stride: between them, in pixels.
        padding: pixels on each side, which hold `fill`.
        fill: what no number of the dtype is below.
    """
    rows, columns = ((length + 2 * padding - size) // stride + 1 for length in shape)
    left = jnp.arange(columns, dtype=jnp.int32) * stride - padding

    def row(m: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        top = m.astype(jnp.int32)[None] * stride - padding
        taps = _taps_of_row(features, top, left, shape, size, stride, padding, fill)
        new = first_largest(taps, _positions(jnp.maximum(top, 0), jnp.maximum(left, 0), shape))
        values, argmax = (
            lax.dynamic_update_slice_in_dim(old, row, m, 0) for old, row in zip(found, new, strict=True)
        )
        return values, argmax

    size_found = (rows, columns, features.shape[-1])
    nothing = jnp.zeros(size_found, features.dtype), jnp.zeros(size_found, jnp.int32)
    return lax.fori_loop(0, rows, row, nothing)


def read_by_rows(
    chosen: Callable[[Iterator[Tap], Array], Array],
    features: Num[Array, "h w c"],
    argmax: Int[Array, "hh ww c"],
    *,
    shape: Size,
    size: int,
    stride: int,
    padding: int,
) -> Num[Array, "hh ww c"]:
    """Of each window what lies at its argmax.

    Args:
        chosen: (taps, argmax of a row of windows [1, ww, c]) -> the tap that lies there.
        features: a map.
        argmax: positions, row * w + column; -1 reads 0.
        shape: (h, w).
        size: of the square windows, in pixels.
        stride: between them, in pixels.
        padding: pixels on each side, which hold 0.
    """
    rows, columns = argmax.shape[:2]
    left = jnp.arange(columns, dtype=jnp.int32) * stride - padding

    def row(m: Array, found: Array) -> Array:
        top = m.astype(jnp.int32)[None] * stride - padding
        taps = _taps_of_row(features, top, left, shape, size, stride, padding, 0)
        of_row = chosen(taps, lax.dynamic_slice_in_dim(argmax, m, 1))
        return lax.dynamic_update_slice_in_dim(found, of_row, m, 0)

    return lax.fori_loop(0, rows, row, jnp.zeros(argmax.shape, features.dtype))


def _positions(rows: Int[Array, " hh"], columns: Int[Array, " ww"], shape: Size) -> Int[Array, "hh ww 1"]:
    """row * w + column."""
    return (rows[:, None] * shape[1] + columns)[..., None]


def _taps_of_row(
    features: Num[Array, "h w c"],
    top: Int[Array, " 1"],
    left: Int[Array, " ww"],
    shape: Size,
    size: int,
    stride: int,
    padding: int,
    fill: Any,
) -> Iterator[tuple[Num[Array, "1 ww c"], Int[Array, "1 ww 1"]]]:
    """What lies under each tap of a row of windows, and where it lies in the map, in reading order."""
    columns = len(left)
    for i in range(size):
        y = top[0] + i
        row = lax.dynamic_slice_in_dim(features, jnp.clip(y, 0, shape[0] - 1), 1)
        row = jnp.where((y >= 0) & (y < shape[0]), row, jnp.asarray(fill, row.dtype))
        behind = (columns - 1) * stride + size - padding - shape[1]
        row = lax.pad(row, jnp.asarray(fill, row.dtype), ((0, 0, 0), (padding, behind, 0), (0, 0, 0)))
        for j in range(size):
            tap = row[0:1:stride, j : j + (columns - 1) * stride + 1 : stride]
            yield tap, _positions(top + i, left + j, shape)
