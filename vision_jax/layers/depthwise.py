"""Convolutions of each channel by itself."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
from jax import lax
from jaxtyping import Array, Float

from vision_jax.kernels.depthwise import depthwise_by_taps
from vision_jax.layers.conv import Initializer
from vision_jax.ops.convolution import DIMENSIONS


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
        """Feature maps in the kernel's dtype."""
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, 1, x.shape[-1]))
        by_taps, plain = (partial(form, stride=self.stride) for form in (depthwise_by_taps, plain_depthwise))
        return lax.platform_dependent(x.astype(kernel.dtype), kernel, cpu=by_taps, default=plain)


def plain_depthwise(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], *, stride: int
) -> Float[Array, "b hh ww c"]:
    """The definition: a convolution of as many groups as there are channels, padded by `k // 2` zeros."""
    pads = [(len(kernel) // 2, len(kernel) // 2)] * 2
    strides, channels = (stride, stride), x.shape[-1]
    return lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=DIMENSIONS, feature_group_count=channels
    )
