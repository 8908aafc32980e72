"""Pooling. Max pooling is maxima of shifted maps:

XLA's gradient of a window's maximum, a select and a scatter, is slow on the CPU; those of maxima of two maps
are not. A tie's gradient is split among those that tie: after a ReLU the only frequent tie is at zero, where
it goes no further.
"""

from __future__ import annotations

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def max_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b _h _w c"]:
    """2x2 max pooling of stride 2; a last odd row or column is left out."""
    return max_pool(x, 2, 2)


def max_pool_3x3(x: Float[Array, "b h w c"]) -> Float[Array, "b _h _w c"]:
    """3x3 max pooling of stride 2 with a border of one, for maps that are nowhere negative."""
    return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2)


def max_pool(
    x: Float[Array, "b h w c"], size: int, stride: int, padding: int = 0, ceil: bool = False
) -> Float[Array, "b _h _w c"]:
    """Max pooling, along one axis after the other.

    Args:
        x: feature maps.
        size: of the square windows, in pixels.
        stride: between them, in pixels.
        padding: pixels on each side that are never the largest; at most half of a window.
        ceil: whether a last window may reach over the border, as long as it begins before it (Caffe's
            and torch's `ceil_mode`).

    Returns:
        One value a window: `(h + 2 * padding - size) // stride + 1` rows, one more with `ceil` where that
        does not divide evenly.
    """
    for axis in (1, 2):
        length = x.shape[axis]
        windows = (length + 2 * padding - size) // stride + 1
        if ceil and (length + 2 * padding - size) % stride and windows * stride < length + padding:
            windows += 1
        behind = max((windows - 1) * stride + size - length - padding, 0)
        if padding or behind:
            pads = [(0, 0)] * 4
            pads[axis] = (padding, behind)
            x = jnp.pad(x, pads, constant_values=-jnp.inf)
        last = (windows - 1) * stride + 1
        pooled, *rest = (lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(size))
        for tap in rest:
            pooled = jnp.maximum(pooled, tap)
        x = pooled
    return x


def average_pool(
    x: Float[Array, "b h w c"], size: int, stride: int, padding: int = 0
) -> Float[Array, "b _h _w c"]:
    """Average pooling, along one axis after the other.

    Args:
        x: feature maps.
        size: of the square windows, in pixels.
        stride: between them, in pixels.
        padding: zeros on each side, which count.

    Returns:
        One value a window: `(h + 2 * padding - size) // stride + 1` rows, columns likewise.
    """
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = (padding, padding)
        x = jnp.pad(x, pads)
        last = (x.shape[axis] - size) // stride * stride + 1
        first, *rest = (lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(size))
        for tap in rest:
            first = first + tap
        x = first / size
    return x


def adaptive_average_pool(
    x: Float[Array, "b h w c"], size: tuple[int, int]
) -> Float[Array, "b {size[0]} {size[1]} c"]:
    """Averages of so many windows of nearly equal size, which overlap where they would not divide the map.

    Args:
        x: feature maps, of any size.
        size: (rows, columns) of the outcome.
    """
    if x.shape[1:3] == tuple(size):
        return x
    rows, columns = (
        jnp.asarray(_window_means(length, n), x.dtype) for length, n in zip(x.shape[1:3], size, strict=True)
    )
    return jnp.einsum("bhwc,yh,xw->byxc", x, rows, columns, precision=lax.Precision.HIGHEST)


@lru_cache(maxsize=64)
def _window_means(length: int, n: int) -> Float[np.ndarray, "n length"]:
    """Each position's weight in each window: the i-th reaches from floor(i L / n) to ceil((i + 1) L / n)."""
    means = np.zeros((n, length))
    for i in range(n):
        begin, end = i * length // n, -(-(i + 1) * length // n)
        means[i, begin:end] = 1 / (end - begin)
    return means
