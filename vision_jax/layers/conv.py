"""Convolutions and fully connected layers."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
from jax import lax
from jaxtyping import Array, Float

from vision_jax.kernels.conv import fast_conv2d
from vision_jax.ops.convolution import DIMENSIONS

Initializer = Callable[..., Array]

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, as ResNets use it
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default for layers
fpn_uniform = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")  # "Xavier" of Caffe2's FPN


class Conv(nn.Module):
    """A convolution.

    Attributes:
        features: output channels.
        size: of the kernel, in pixels; or (rows, columns).
        stride: in pixels.
        bias: whether to add one.
        kernel_init: of the kernel [rows, columns, i, features].
        padding: zeros on each side, in pixels; half of the kernel's extent if None, which at stride 1 keeps
            the map's size.
        dilation: from one tap to the next, in pixels.
    """

    features: int
    size: int | tuple[int, int] = 3
    stride: int = 1
    bias: bool = True
    kernel_init: Initializer = he_normal
    padding: int | None = None
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b hh ww o"]:
        """Feature maps in the kernel's dtype; their size is that of `conv2d`."""
        rows, columns = (self.size, self.size) if isinstance(self.size, int) else self.size
        kernel = self.param("kernel", self.kernel_init, (rows, columns, x.shape[-1], self.features))
        half = rows // 2 * self.dilation, columns // 2 * self.dilation
        padding = half if self.padding is None else self.padding
        y = conv2d(x.astype(kernel.dtype), kernel, self.stride, padding, self.dilation)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else y


class Dense(nn.Module):
    """A fully connected layer.

    Attributes:
        features: output channels.
        kernel_init: of the kernel [i, features].
    """

    features: int
    kernel_init: Initializer = torch_uniform

    @nn.compact
    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """x @ kernel + bias, in the kernel's dtype."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        return x.astype(kernel.dtype) @ kernel + self.param("bias", nn.initializers.zeros, (self.features,))


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
) -> Float[Array, "b hh ww o"]:
    """A 2-D cross-correlation, zero-padded alike on opposite sides (the convention of torch's conv2d).

    Reverse-mode differentiable in `x` and `kernel`.

    Args:
        x: feature maps.
        kernel: one tap per position, input and output channel.
        stride: of both axes, in pixels.
        padding: zeros added on each side, in pixels; or (above and below, left and right).
        dilation: from one tap to the next, in pixels (Yu and Koltun 2016, equation 2).

    Returns:
        Feature maps of `(h + 2 * padding - dilation * (kh - 1) - 1) // stride + 1` rows, columns likewise.
    """
    padding = (padding, padding) if isinstance(padding, int) else padding
    return fast_conv2d(plain_conv2d, x, kernel, stride, padding, dilation)


def plain_conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
) -> Float[Array, "b hh ww o"]:
    """The definition of `conv2d`; with 1x1 kernels a matrix product over channels."""
    if kernel.shape[:2] == (1, 1) and padding == (0, 0):
        return lax.dot_general(x[:, ::stride, ::stride], kernel[0, 0], (((3,), (0,)), ((), ())))
    strides, dilations, pads = (stride, stride), (dilation, dilation), [(pad, pad) for pad in padding]
    return lax.conv_general_dilated(
        x, kernel, strides, pads, rhs_dilation=dilations, dimension_numbers=DIMENSIONS
    )
