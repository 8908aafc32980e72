"""Depthwise convolutions that are fast on CPUs, where XLA's grouped convolution is slow."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def depthwise_by_taps(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], *, stride: int
) -> Float[Array, "b hh ww c"]:
    """One product for each tap, all in one loop over the map; sums are of float32 at least.

    Args:
        x: feature maps.
        kernel: one tap per position and channel; `k` is odd.
        stride: in pixels; the map is padded by `k // 2` zeros on each side.
    """
    size = len(kernel)
    pad = size // 2
    rows, columns = ((length - 1) // stride + 1 for length in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    exact = jnp.promote_types(x.dtype, jnp.float32)
    total = jnp.zeros((x.shape[0], rows, columns, x.shape[-1]), exact)
    for i in range(size):
        for j in range(size):
            last = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
            seen = x[:, i : last[0] : stride, j : last[1] : stride].astype(exact)
            total = total + seen * kernel[i, j, 0]
    return total.astype(x.dtype)
