"""Max pooling as maxima of shifted maps.

XLA's gradient of a window's maximum, a select and a scatter, is slow on the CPU; those of maxima of two maps
are not. A tie's gradient goes to all who share it: after a ReLU the only frequent tie is at zero, where it
goes no further.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool_2x2(x: Float[Array, "b h w c"]) -> Float[Array, "b _h _w c"]:
    """2x2 max pooling of stride 2; a last odd row or column is left out."""
    return _pool(x, 2)


def max_pool_3x3(x: Float[Array, "b h w c"]) -> Float[Array, "b _h _w c"]:
    """3x3 max pooling of stride 2 with a border of one, for maps that are nowhere negative."""
    return _pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3)


def _pool(x: Array, size: int) -> Array:
    """Along one axis after the other: maxima of every second place and those that follow it."""
    for axis in (1, 2):
        places = (x.shape[axis] - size) // 2 + 1
        pooled, *rest = (lax.slice_in_dim(x, i, i + 2 * places - 1, 2, axis) for i in range(size))
        for tap in rest:
            pooled = jnp.maximum(pooled, tap)
        x = pooled
    return x
