"""Transposed convolutions, which learn to upsample (Long et al. 2015, section 3.3).

The usual form, a convolution of a map with zeros between its pixels, multiplies mostly by those zeros and is
slow on the CPU, its gradients a hundred times slower. But an output's row modulo the stride says which rows
of the kernel reach it, and its column likewise: the rows of each kind are one ordinary convolution of the
map, whose channels are the kinds of columns and, for each, the features. On accelerators XLA's own form is
used.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vision_jax.layers.conv import DIMENSIONS, Initializer, conv2d
from vision_jax.ops.convolution import bilinear_kernel

_LARGE = 8  # strides at which XLA's strided convolution is slow
_CACHE = 2**22  # bytes that stay in the cores' caches

he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal", in_axis=-1, out_axis=-2)


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
        kernel: one tap per place, output and input channel.
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
        return conv2d(x, _turned(kernel), 1, (kernel.shape[0] - 1 - padding, kernel.shape[1] - 1 - padding))
    return cast(Array, _conv_transpose(x, kernel, stride, padding, output_padding))


def _native(x: Array, kernel: Array, stride: int, padding: int, output_padding: int) -> Array:
    around = [taps - 1 - padding for taps in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x,
        _turned(kernel),
        (1, 1),
        [(pad, pad + output_padding) for pad in around],
        lhs_dilation=(stride, stride),
        dimension_numbers=DIMENSIONS,
    )


def _turned(kernel: Array) -> Array:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _forward(x: Array, kernel: Array, stride: int, padding: int, output_padding: int) -> Array:
    geometry = {"stride": stride, "padding": padding, "output_padding": output_padding}
    by_kinds, native = partial(_by_kinds, **geometry), partial(_native, **geometry)
    return lax.platform_dependent(x, kernel, cpu=by_kinds, default=native)


def _with_residuals(
    x: Array, kernel: Array, stride: int, padding: int, output_padding: int
) -> tuple[Array, tuple[Array, Array]]:
    return _forward(x, kernel, stride, padding, output_padding), (x, kernel)


def _gradients(
    stride: int, padding: int, output_padding: int, residuals: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    def by_kinds(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        overlapping = max(kernel.shape[:2]) > stride
        to_inputs = _input_gradient_at_once if overlapping and stride < _LARGE else _input_gradient_by_kinds
        return (
            to_inputs(x, kernel, g, stride, padding),
            _kernel_gradient(x, kernel, g, stride, padding),
        )

    def native(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        form = partial(_native, stride=stride, padding=padding, output_padding=output_padding)
        return jax.vjp(form, x, kernel)[1](g)

    return lax.platform_dependent(*residuals, g, cpu=by_kinds, default=native)


_conv_transpose = jax.custom_vjp(_forward, nondiff_argnums=(2, 3, 4))
_conv_transpose.defvjp(_with_residuals, _gradients)


def _by_kinds(x: Array, kernel: Array, *, stride: int, padding: int, output_padding: int) -> Array:
    """A convolution for each kind of rows, with the rows of the kernel that reach them."""
    batch, height, width, _ = x.shape
    rows, columns, features, _ = kernel.shape
    down, across = _reach(kernel, stride)
    joined = _joined(kernel, stride)
    cells = (batch, height + down - 1, width + across - 1, stride * features)

    def of_kind(kind: int) -> Array:
        taps = joined[kind::stride]
        if len(taps) == 0:  # a kernel smaller than the stride leaves gaps
            return jnp.zeros(cells, x.dtype)
        y = _convolved(x, _turned(taps), (len(taps) - 1, across - 1))
        return jnp.pad(y, ((0, 0), (0, down - len(taps)), (0, 0), (0, 0)))

    y = jnp.stack([of_kind(kind) for kind in range(stride)], axis=2)
    y = y.reshape(batch, cells[1] * stride, cells[2] * stride, features)
    whole = (height - 1) * stride + rows, (width - 1) * stride + columns
    cut = (
        (-padding, length - padding + output_padding - written, 0)
        for length, written in zip(whole, y.shape[1:3], strict=True)
    )
    return lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), *cut, (0, 0, 0)))


def _reach(kernel: Array, stride: int) -> tuple[int, int]:
    """How many inputs, one below and beside the other, an output can depend on."""
    return -(-kernel.shape[0] // stride), -(-kernel.shape[1] // stride)


def _joined(kernel: Array, stride: int) -> Float[Array, "kh _across _wide i"]:
    """As many columns as the stride become channels."""
    rows, columns, features, channels = kernel.shape
    _, across = _reach(kernel, stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, across * stride - columns), (0, 0), (0, 0)))
    return kernel.reshape(rows, across, stride * features, channels)


def _convolved(x: Array, kernel: Array, padding: tuple[int, int], stride: int = 1) -> Array:
    if kernel.shape[:2] == (1, 1) and padding == (0, 0) and stride == 1:
        return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    pads = [(pad, pad) for pad in padding]
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=DIMENSIONS)


def _input_gradient_at_once(x: Array, kernel: Array, g: Array, stride: int, padding: int) -> Array:
    """The convolution whose transpose this is."""
    return _convolved(g, kernel, (padding, padding), stride)


def _input_gradient_by_kinds(x: Array, kernel: Array, g: Array, stride: int, padding: int) -> Array:
    cells, joined = _cells(x, kernel, g, stride, padding), _joined(kernel, stride)
    kinds = range(min(stride, kernel.shape[0]))
    shares = (_convolved(cells[:, :, kind], joined[kind::stride], (0, 0)) for kind in kinds)
    return reduce(jnp.add, (share[:, : x.shape[1]] for share in shares))


def _cells(
    x: Array, kernel: Array, g: Array, stride: int, padding: int
) -> Float[Array, "b _m _stride _n _wide"]:
    """The output's gradient with what was cut, in cells of the stride."""
    batch, height, width, features = g.shape
    m, n = (length + reach - 1 for length, reach in zip(x.shape[1:3], _reach(kernel, stride), strict=True))
    below, right = m * stride - padding - height, n * stride - padding - width
    around = ((0, 0, 0), (padding, below, 0), (padding, right, 0), (0, 0, 0))
    return lax.pad(g, jnp.zeros((), g.dtype), around).reshape(batch, m, stride, n, stride * features)


def _kernel_gradient(x: Array, kernel: Array, g: Array, stride: int, padding: int) -> Array:
    """One matrix product for each row of taps: the inputs that cells depend on, times their gradients."""
    rows, columns, features, channels = kernel.shape
    _, across = _reach(kernel, stride)

    def of_part(x: Array, g: Array) -> Array:
        cells = _cells(x, kernel, g, stride, padding)
        height, width = x.shape[1], cells.shape[3]
        x = jnp.pad(x, ((0, 0), (0, 0), (across - 1, across - 1), (0, 0)))
        x = jnp.concatenate([x[:, :, j : j + width] for j in reversed(range(across))], axis=-1)
        x = x.reshape(-1, across * channels)
        beside = (cells[:, i // stride : i // stride + height, i % stride] for i in range(rows))
        return jnp.stack(
            [lax.dot_general(x, row.reshape(len(x), -1), (((0,), (0,)), ((), ()))) for row in beside]
        )

    if across == 1 or across * x.nbytes < _CACHE:
        summed = of_part(x, g)
    else:  # an image at a time: each row of taps reads all of it
        exact = jnp.promote_types(g.dtype, jnp.float32)
        nothing = jnp.zeros((rows, across * channels, stride * features), exact)
        summed, _ = lax.scan(
            lambda total, one: (total + of_part(*one), None), nothing, (x[:, None], g[:, None])
        )
    summed = summed.reshape(rows, across, channels, stride, features).transpose(0, 1, 3, 4, 2)
    return summed.reshape(rows, across * stride, features, channels)[:, :columns].astype(kernel.dtype)


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


class ConvTranspose(nn.Module):
    """A transposed convolution.

    Attributes:
        features: output channels.
        size: of the square kernel, in pixels.
        stride: enlargement.
        padding: rows and columns of the outcome that are cut from each side; if None so many that the map
            becomes `stride` times as large, with the output padding that this takes, which at
            stride 1 takes an odd size.
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
    kernel_init: Initializer = he_normal

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b hh ww o"]:
        shape = (self.size, self.size, self.features, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        padding, output_padding = self.padding, self.output_padding
        if padding is None:
            padding = max(-((self.stride - self.size) // 2), 0)
            output_padding = self.stride - self.size + 2 * padding
        y = conv_transpose2d(x.astype(kernel.dtype), kernel, self.stride, padding, output_padding)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else y
