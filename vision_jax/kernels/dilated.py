"""Dilated convolutions at stride 1 that meet much padding (Chen et al. 2017, section 3: atrous convolution).

Where a map keeps its size and the dilation comes near it, as in atrous spatial pyramid pooling, most taps of
most positions lie outside. Tap by tap only what lies inside is multiplied, in matrix products; what each tap
gives is added where it belongs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[int, int]  # (above and below, left and right)

# With fewer channels, or with more of the products inside, XLA's own form is as fast.
_FEWEST_CHANNELS = 16
_MOST_INSIDE = 0.75


def is_faster(
    x: Float[Array, "b h w _i"], kernel: Float[Array, "kh kw i o"], padding: Padding, dilation: int
) -> bool:
    """Whether so much lies outside that time is gained.

    In bfloat16 a sum of products, each rounded, would lose digits.
    """
    if dilation == 1 or min(kernel.shape[2:]) < _FEWEST_CHANNELS or kernel.dtype.itemsize < 4:
        return False
    taps = (kernel.shape[0], kernel.shape[1])
    inside = [axis.inside for axis in _axes(x.shape, taps, padding, dilation)]
    return math.prod(inside) < _MOST_INSIDE


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], padding: Padding, dilation: int
) -> Float[Array, "b hh ww o"]:
    """A cross-correlation at stride 1.

    Args:
        x: feature maps.
        kernel: one tap per position, input and output channel.
        padding: zeros on each side, in pixels.
        dilation: from one tap to the next, in pixels.

    Returns:
        Feature maps of `h + 2 * padding - dilation * (kh - 1)` rows, and columns likewise.
    """
    channels, features = kernel.shape[2:]
    down, across = _axes(x.shape, (kernel.shape[0], kernel.shape[1]), padding, dilation)
    total = jnp.zeros((len(x), down.length_out, across.length_out, features), x.dtype)
    for i, rows in down.spans():
        band, products = x[:, rows.inputs], None
        if features < channels:  # a product for a row of taps: its outcome is less to cut than the map
            taps = kernel[i].transpose(1, 0, 2).reshape(channels, -1)
            products = _product(band, taps).reshape(*band.shape[:3], -1, features)
        for j, columns in across.spans():
            if products is None:
                product = _product(band[:, :, columns.inputs], kernel[i, j])
            else:
                product = products[:, :, columns.inputs, j]
            total = total + jnp.pad(product, ((0, 0), rows.around, columns.around, (0, 0)))
    return total


def kernel_gradient(
    x: Float[Array, "b h w i"],
    g: Float[Array, "b hh ww o"],
    taps: tuple[int, int],
    padding: Padding,
    dilation: int,
) -> Float[Array, "kh kw i o"]:
    """The gradient of `convolve` with respect to its kernel.

    Args:
        x: feature maps.
        g: gradient with respect to the output.
        taps: (rows, columns) of the kernel.
        padding: as in `convolve`.
        dilation: as in `convolve`.

    Returns:
        One value per tap; 0 where it meets nothing of the map.
    """
    down, across = _axes(x.shape, taps, padding, dilation)
    channels, features = x.shape[-1], g.shape[-1]
    products = {
        (i, j): lax.dot_general(
            x[:, rows.inputs, columns.inputs].reshape(-1, channels),
            g[:, rows.outputs, columns.outputs].reshape(-1, features),
            (((0,), (0,)), ((), ())),
        )
        for i, rows in down.spans()
        for j, columns in across.spans()
    }
    nothing = jnp.zeros((channels, features), g.dtype)
    return jnp.stack(
        [jnp.stack([products.get((i, j), nothing) for j in range(taps[1])]) for i in range(taps[0])]
    )


def _product(x: Float[Array, "b h w i"], taps: Float[Array, "i o"]) -> Float[Array, "b h w o"]:
    """Over channels."""
    return lax.dot_general(x, taps, (((3,), (0,)), ((), ())))


@dataclass(frozen=True)
class _Span:
    """Where along an axis a tap meets the map: inputs, the outputs they are for, how many others around."""

    inputs: slice
    outputs: slice
    around: tuple[int, int]


@dataclass(frozen=True)
class _Axis:
    """Rows or columns of a convolution at stride 1."""

    length: int
    taps: int
    padding: int
    dilation: int

    @property
    def length_out(self) -> int:
        """Outputs along the axis."""
        return self.length + 2 * self.padding - self.dilation * (self.taps - 1)

    @property
    def inside(self) -> float:
        """How much of all taps at all outputs lies inside."""
        met = sum(span.outputs.stop - span.outputs.start for _, span in self.spans())
        return met / (self.taps * self.length_out)

    def spans(self) -> Iterator[tuple[int, _Span]]:
        """The taps that meet the map, and where."""
        for tap in range(self.taps):
            first = self.padding - tap * self.dilation  # the output whose tap lies on the first input
            begin, end = max(first, 0), min(first + self.length, self.length_out)
            if begin < end:
                around = begin, self.length_out - end
                yield tap, _Span(slice(begin - first, end - first), slice(begin, end), around)


def _axes(
    shape: tuple[int, ...], taps: tuple[int, int], padding: Padding, dilation: int
) -> tuple[_Axis, _Axis]:
    """Rows and columns of a convolution of maps [b, h, w, i]."""
    return (
        _Axis(shape[1], taps[0], padding[0], dilation),
        _Axis(shape[2], taps[1], padding[1], dilation),
    )
