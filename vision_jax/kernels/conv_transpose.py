"""Transposed convolutions that are fast where XLA's are slow.

The usual form, a convolution of a map with zeros between its pixels, multiplies mostly by those zeros and is
slow on the CPU, its gradients a hundred times slower. But an output's row modulo the stride, its phase, says
which rows of the kernel reach it, and its column likewise: the rows of each phase are one ordinary
convolution of the map, whose channels are the phases of columns and, for each, the features. On accelerators
XLA's own form is used.

Throughout `x` are feature maps [b, h, w, i], `g` gradients with respect to the outputs [b, hh, ww, o],
kernels [kh, kw, o, i], all of one floating dtype; `reach` is over how many inputs, one below and one beside
the other, a kernel extends; `wide` is stride * o.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# (x, kernel, stride, padding, output_padding), by name too -> feature maps
TransposedConvolution = Callable[..., Array]

_LARGE = 8  # strides at which XLA's strided convolution is slow
_CACHE = 2**22  # bytes that stay in the cores' caches


def fast_conv_transpose2d(
    plain: TransposedConvolution,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    stride: int,
    padding: int,
    output_padding: int,
) -> Float[Array, "b hh ww o"]:
    """A plain transposed convolution's values and gradients, on CPUs phase by phase.

    Reverse-mode differentiable in `x` and `kernel`.

    Args:
        plain: the definition, a function of a module; what runs on other platforms.
        x, kernel, stride, padding, output_padding: its arguments.
    """
    return cast(Array, _conv_transpose(plain, x, kernel, stride, padding, output_padding))


def _forward(
    plain: TransposedConvolution,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    stride: int,
    padding: int,
    output_padding: int,
) -> Float[Array, "b hh ww o"]:
    """The feature maps."""
    geometry = {"stride": stride, "padding": padding, "output_padding": output_padding}
    by_phase, native = partial(_by_phase, **geometry), partial(plain, **geometry)
    return lax.platform_dependent(x, kernel, cpu=by_phase, default=native)


def _with_residuals(
    plain: TransposedConvolution,
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    stride: int,
    padding: int,
    output_padding: int,
) -> tuple[Float[Array, "b hh ww o"], tuple[Array, Array]]:
    """The feature maps, and what the gradients need."""
    return _forward(plain, x, kernel, stride, padding, output_padding), (x, kernel)


def _gradients(
    plain: TransposedConvolution,
    stride: int,
    padding: int,
    output_padding: int,
    residuals: tuple[Float[Array, "b h w i"], Float[Array, "kh kw o i"]],
    g: Float[Array, "b hh ww o"],
) -> tuple[Float[Array, "b h w i"], Float[Array, "kh kw o i"]]:
    """The gradients with respect to inputs and kernel."""

    def by_phase(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        overlapping = max(kernel.shape[:2]) > stride
        to_inputs = _input_gradient_at_once if overlapping and stride < _LARGE else _input_gradient_by_phase
        return (
            to_inputs(x, kernel, g, stride, padding),
            _kernel_gradient(x, kernel, g, stride, padding),
        )

    def native(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        form = partial(plain, stride=stride, padding=padding, output_padding=output_padding)
        return jax.vjp(form, x, kernel)[1](g)

    return lax.platform_dependent(*residuals, g, cpu=by_phase, default=native)


_conv_transpose = jax.custom_vjp(_forward, nondiff_argnums=(0, 3, 4, 5))
_conv_transpose.defvjp(_with_residuals, _gradients)


def _by_phase(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    *,
    stride: int,
    padding: int,
    output_padding: int,
) -> Float[Array, "b hh ww o"]:
    """A convolution for each phase of rows, with the rows of the kernel that reach them."""
    batch, height, width, _ = x.shape
    rows, columns, features, _ = kernel.shape
    down, across = _reach(kernel, stride)
    joined = _joined(kernel, stride)
    cells = (batch, height + down - 1, width + across - 1, stride * features)

    def of_phase(phase: int) -> Array:
        taps = joined[phase::stride]
        if len(taps) == 0:  # a kernel smaller than the stride leaves gaps
            return jnp.zeros(cells, x.dtype)
        y = _convolved(x, taps[::-1, ::-1].swapaxes(2, 3), (len(taps) - 1, across - 1))
        return jnp.pad(y, ((0, 0), (0, down - len(taps)), (0, 0), (0, 0)))

    y = jnp.stack([of_phase(phase) for phase in range(stride)], axis=2)
    y = y.reshape(batch, cells[1] * stride, cells[2] * stride, features)
    whole = (height - 1) * stride + rows, (width - 1) * stride + columns
    cut = (
        (-padding, length - padding + output_padding - written, 0)
        for length, written in zip(whole, y.shape[1:3], strict=True)
    )
    return lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), *cut, (0, 0, 0)))


def _reach(kernel: Float[Array, "kh kw o i"], stride: int) -> tuple[int, int]:
    """How many inputs, one below and beside the other, an output can depend on."""
    return -(-kernel.shape[0] // stride), -(-kernel.shape[1] // stride)


def _joined(kernel: Float[Array, "kh kw o i"], stride: int) -> Float[Array, "kh _reach _wide i"]:
    """As many columns as the stride become channels."""
    rows, columns, features, channels = kernel.shape
    _, across = _reach(kernel, stride)
    kernel = jnp.pad(kernel, ((0, 0), (0, across * stride - columns), (0, 0), (0, 0)))
    return kernel.reshape(rows, across, stride * features, channels)


def _convolved(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    padding: tuple[int, int],
    stride: int = 1,
) -> Float[Array, "b hh ww o"]:
    """An ordinary convolution, zero-padded alike on opposite sides."""
    if kernel.shape[:2] == (1, 1) and padding == (0, 0) and stride == 1:
        return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    pads = [(pad, pad) for pad in padding]
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=dimensions)


def _input_gradient_at_once(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    g: Float[Array, "b hh ww o"],
    stride: int,
    padding: int,
) -> Float[Array, "b h w i"]:
    """The convolution whose transpose this is."""
    return _convolved(g, kernel, (padding, padding), stride)


def _input_gradient_by_phase(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    g: Float[Array, "b hh ww o"],
    stride: int,
    padding: int,
) -> Float[Array, "b h w i"]:
    """A convolution of each phase of the output's gradient, summed."""
    cells, joined = _cells(x, kernel, g, stride, padding), _joined(kernel, stride)
    phases = range(min(stride, kernel.shape[0]))
    terms = (_convolved(cells[:, :, phase], joined[phase::stride], (0, 0)) for phase in phases)
    return reduce(jnp.add, (term[:, : x.shape[1]] for term in terms))


def _cells(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    g: Float[Array, "b hh ww o"],
    stride: int,
    padding: int,
) -> Float[Array, "b _m {stride} _n _wide"]:
    """The output's gradient with zeros for what was cut, in cells of the stride."""
    batch, height, width, features = g.shape
    m, n = (length + reach - 1 for length, reach in zip(x.shape[1:3], _reach(kernel, stride), strict=True))
    below, right = m * stride - padding - height, n * stride - padding - width
    around = ((0, 0, 0), (padding, below, 0), (padding, right, 0), (0, 0, 0))
    return lax.pad(g, jnp.zeros((), g.dtype), around).reshape(batch, m, stride, n, stride * features)


def _kernel_gradient(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw o i"],
    g: Float[Array, "b hh ww o"],
    stride: int,
    padding: int,
) -> Float[Array, "kh kw o i"]:
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
