"""Convolutions of each channel by itself."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vision_jax.layers.conv import DIMENSIONS, Initializer


class DepthwiseConv(nn.Module):
    """A convolution of each channel with a square kernel of its own; stride 1 keeps the map's size.

    Attributes:
        size: of the kernels, in pixels; odd.
        stride: in pixels.
        kernel_init: of the kernels [size, size, 1, c].
    """

    size: int = 3
    stride: int = 1
    kernel_init: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b hh ww c"]:
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, 1, x.shape[-1]))
        return lax.platform_dependent(
            x.astype(kernel.dtype), kernel, cpu=self._by_taps, default=self._by_groups
        )

    def _by_taps(self, x: Array, kernel: Array) -> Array:
        """One product for each tap, all in one loop over the map."""
        pad, step = self.size // 2, self.stride
        rows, columns = ((length - 1) // step + 1 for length in x.shape[1:3])
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        exact = jnp.promote_types(x.dtype, jnp.float32)
        total = jnp.zeros((x.shape[0], rows, columns, x.shape[-1]), exact)
        for i in range(self.size):
            for j in range(self.size):
                last = i + (rows - 1) * step + 1, j + (columns - 1) * step + 1
                seen = x[:, i : last[0] : step, j : last[1] : step].astype(exact)
                total = total + seen * kernel[i, j, 0]
        return total.astype(x.dtype)

    def _by_groups(self, x: Array, kernel: Array) -> Array:
        pads = [(self.size // 2, self.size // 2)] * 2
        return lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            pads,
            dimension_numbers=DIMENSIONS,
            feature_group_count=x.shape[-1],
        )
