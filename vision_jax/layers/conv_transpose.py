"""Transposed convolutions, which learn to upsample (Long et al. 2015, section 3.3)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vision_jax.kernels.conv_transpose import fast_conv_transpose2d
from vision_jax.layers.conv import Initializer, conv2d
from vision_jax.ops.convolution import DIMENSIONS, bilinear_kernel

_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal", in_axis=-1, out_axis=-2)


class ConvTranspose(nn.Module):
    """A transposed convolution.

    Attributes:
        features: output channels.
        size: of the square kernel, in pixels.
        stride: enlargement.
        padding: rows and columns of the outcome that are cut from each side; if None so many that the map
            becomes `stride` times as large, with the output padding that this takes, which at stride 1
            takes an odd size.
        output_padding: rows and columns that are kept below and on the right; less than the stride.
        bias: whether to add one.
        kernel_init: of the kernel [size, size, features, i].
    """

    features: int
    size: int = 4
    stride: int = 2
    padding: int | None = None
    output_padding: int = 0
    bias: bool = True
    kernel_init: Initializer = _he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b hh ww o"]:
        """Feature maps in the kernel's dtype; their size is that of `conv_transpose2d`."""
        shape = (self.size, self.size, self.features, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        padding, output_padding = self.padding, self.output_padding
        if padding is None:
            padding = max(-((self.stride - self.size) // 2), 0)
            output_padding = self.stride - self.size + 2 * padding
        y = conv_transpose2d(x.astype(kernel.dtype), kernel, self.stride, padding, output_padding)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else y


class ConvTranspose2x2(nn.Module):
    """A transposed convolution with a 2x2 kernel and stride 2: each cell becomes four, which do not overlap.

    One matrix product, for that reason.

    Attributes:
        features: output channels.
        kernel_init: of the kernel [i, 2, 2, features].
    """

    features: int
    kernel_init: Initializer = nn.initializers.variance_scaling(
        2.0, "fan_out", "normal", in_axis=0, out_axis=(1, 2, 3)
    )

    @nn.compact
    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n 2*h 2*w o"]:
        """Feature maps of twice the size, in the kernel's dtype."""
        n, h, w, channels = x.shape
        kernel = self.param("kernel", self.kernel_init, (channels, 2, 2, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = x.astype(kernel.dtype).reshape(-1, channels) @ kernel.reshape(channels, -1)
        y = y.reshape(n, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(n, 2 * h, 2 * w, self.features) + bias


def conv_transpose2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
) -> Float[Array, "b hh ww o"]:
    """`ops.transposed_convolution` of each map: the transpose of the convolution `conv2d` with this kernel.

    Reverse-mode differentiable in `x` and `kernel`.

    Args:
        x: feature maps.
        kernel: one tap per position, output and input channel.
        stride: from what one pixel of the map writes to what the next one does, in pixels.
        padding: rows and columns of the outcome that are cut from each side.
        output_padding: of them that are kept below and on the right; less than the stride.

    Returns:
        Feature maps of `(h - 1) * stride + kh - 2 * padding + output_padding` rows, and columns likewise.

    Raises:
        ValueError: the output padding is as large as the stride.
    """
    if not 0 <= output_padding < stride:
        raise ValueError(f"output_padding {output_padding} is not less than the stride {stride}")
    if stride == 1 and padding < min(kernel.shape[:2]):
        return conv2d(x, _flipped(kernel), 1, (kernel.shape[0] - 1 - padding, kernel.shape[1] - 1 - padding))
    return fast_conv_transpose2d(plain_conv_transpose2d, x, kernel, stride, padding, output_padding)


def plain_conv_transpose2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    stride: int,
    padding: int,
    output_padding: int,
) -> Float[Array, "b hh ww o"]:
    """The definition of `conv_transpose2d`: a convolution of the map with zeros between its pixels."""
    around = [taps - 1 - padding for taps in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x,
        _flipped(kernel),
        (1, 1),
        [(pad, pad + output_padding) for pad in around],
        lhs_dilation=(stride, stride),
        dimension_numbers=DIMENSIONS,
    )


def _flipped(kernel: Float[Array, "kh kw o i"]) -> Float[Array, "kh kw i o"]:
    """The kernel turned by 180 degrees, input and output channels exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def bilinear_init(stride: int) -> Initializer:
    """Kernels [k, k, c, c] that interpolate, from where training goes on (Long et al. 2015, section 3.3).

    Args:
        stride: of the layer; a kernel of twice as many pixels, or one less if it is odd, interpolates
            (`ops.bilinear_kernel`).

    Returns:
        (key, shape, dtype) -> kernel, the same for every key. It raises a ValueError where the kernel is not
        square or the channels of input and output are not as many.
    """

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        kernel = bilinear_kernel(stride, shape[-1], shape[0])
        if kernel.shape != tuple(shape):
            raise ValueError(f"a kernel {shape} cannot interpolate: that takes [k, k, c, c]")
        return jnp.asarray(kernel, dtype)

    return init
