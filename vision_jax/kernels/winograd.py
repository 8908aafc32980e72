"""3x3 convolutions with 2.25 times fewer multiplications (Winograd 1980; Lavin and Gray 2016, section 4.1).

A tile of 2x2 outputs depends on 4x4 inputs. Transformed by small matrices of 0, 1/2 and +-1,

    Y = A^T [(G k G^T) * (B^T d B)] A        tile d [4, 4], kernel k [3, 3], outputs Y [2, 2]

both meet value by value: so all tiles and channels together are 16 matrix products, each of inputs [tiles, i]
by kernels [i, o], in place of the nine of a plain convolution on four times as many rows. The gradient with
respect to the kernel is the same backwards: 16 products of transformed inputs and transformed output
gradients. In float32 the values differ from a plain convolution's by rounding, as two orders of a sum do.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], padding: int
) -> Float[Array, "b hh ww o"]:
    """A 3x3 cross-correlation at stride 1.

    Args:
        x: feature maps.
        kernel: one tap per position, input and output channel.
        padding: zeros on each side, in pixels; with it at least 3 rows and columns.

    Returns:
        Feature maps of h + 2 * padding - 2 rows, and columns likewise.
    """
    return _products(x, _transformed_kernel(kernel), padding, contracted=0)


def input_gradient(
    g: Float[Array, "b hh ww o"], kernel: Float[Array, "3 3 i o"], padding: int
) -> Float[Array, "b h w i"]:
    """The gradient of `convolve` with respect to its input: a convolution with the flipped kernel.

    The products contract the kernel's last axis, for a transposed kernel would be copied for each of them.

    Args:
        g: gradient with respect to the output.
        kernel: as in `convolve`.
        padding: as in `convolve`, at most 2.

    Returns:
        One value per pixel and channel of the input.
    """
    return _products(g, _transformed_kernel(kernel[::-1, ::-1]), 2 - padding, contracted=1)


def _products(
    x: Float[Array, "b h w i"], kernels: Sequence[Float[Array, "_ _"]], padding: int, contracted: int
) -> Float[Array, "b hh ww o"]:
    """The convolution with transformed kernels, whose axis `contracted` is that of the channels of `x`."""
    batch, height, width, _ = x.shape
    height, width = height + 2 * padding - 2, width + 2 * padding - 2
    rows, columns = _tiles(height), _tiles(width)
    products = [
        lax.dot_general(inputs, taps, (((1,), (contracted,)), ((), ()))).reshape(batch, rows, columns, -1)
        for inputs, taps in zip(_transformed_inputs(x, padding, rows, columns), kernels, strict=True)
    ]
    left, right = zip(*(_sums(*products[4 * i : 4 * i + 4]) for i in range(4)), strict=True)
    corners = zip(_sums(*left), _sums(*right), strict=True)
    y = jnp.stack([jnp.stack(pair, axis=3) for pair in corners], axis=2)
    return y.reshape(batch, 2 * rows, 2 * columns, -1)[:, :height, :width]


def kernel_gradient(
    x: Float[Array, "b h w i"], g: Float[Array, "b hh ww o"], padding: int
) -> Float[Array, "3 3 i o"]:
    """The gradient of `convolve` with respect to its kernel.

    Args:
        x: feature maps.
        g: gradient with respect to the output.
        padding: zeros on each side of `x`, in pixels.

    Returns:
        One value per tap.
    """
    batch, height, width, channels = g.shape
    rows, columns = _tiles(height), _tiles(width)
    g = jnp.pad(g, ((0, 0), (0, 2 * rows - height), (0, 2 * columns - width), (0, 0)))
    g = g.reshape(batch, rows, 2, columns, 2, channels)
    halves = [_spread(g[:, :, 0, :, j], g[:, :, 1, :, j]) for j in range(2)]
    transformed = [
        value.reshape(-1, channels) for pair in zip(*halves, strict=True) for value in _spread(*pair)
    ]
    inputs = _transformed_inputs(x, padding, rows, columns)
    products = [
        lax.dot_general(a, b, (((0,), (0,)), ((), ()))) for a, b in zip(inputs, transformed, strict=True)
    ]
    taps = [_gathered(*(_gathered(*products[4 * i : 4 * i + 4])[j] for i in range(4))) for j in range(3)]
    return jnp.stack([jnp.stack([taps[j][i] for j in range(3)]) for i in range(3)])


def _tiles(size: int) -> int:
    """How many pairs of output rows (columns) there are, the last one perhaps half outside."""
    return (size + 1) // 2


def _transformed_inputs(
    x: Float[Array, "b h w i"], padding: int, rows: int, columns: int
) -> list[Float[Array, "tiles i"]]:
    """B^T d B of every tile: 16 arrays, tiles = b * rows * columns."""
    batch, height, width, channels = x.shape
    below, right = 2 * rows + 2 - height - padding, 2 * columns + 2 - width - padding
    x = lax.optimization_barrier(x)  # else what made it is computed anew for each of the 16
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (padding, below, 0), (padding, right, 0), (0, 0, 0)))
    x = x.reshape(batch, rows + 1, 2, columns + 1, 2, channels)

    def pixel(i: int, j: int) -> Array:
        """Row i, column j of every tile."""
        return x[:, i // 2 : i // 2 + rows, i % 2, j // 2 : j // 2 + columns, j % 2]

    by_column = [_differences([pixel(i, j) for i in range(4)]) for j in range(4)]
    return [
        value.reshape(-1, channels)
        for i in range(4)
        for value in _differences([by_column[j][i] for j in range(4)])
    ]


def _transformed_kernel(kernel: Float[Array, "3 3 i o"]) -> list[Float[Array, "i o"]]:
    """G k G^T: 16 arrays."""
    return [
        value
        for row in zip(*(_thirds([kernel[i, j] for i in range(3)]) for j in range(3)), strict=True)
        for value in _thirds(row)
    ]


def _differences(d: Sequence[Float[Array, "*n"]]) -> list[Float[Array, "*n"]]:
    """B^T d: four arrays of four."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _thirds(k: Sequence[Float[Array, "*n"]]) -> list[Float[Array, "*n"]]:
    """G k: four arrays of three."""
    even, odd = 0.5 * (k[0] + k[2]), 0.5 * k[1]
    return [k[0], even + odd, even - odd, k[2]]


def _sums(
    a: Float[Array, "*n"], b: Float[Array, "*n"], c: Float[Array, "*n"], d: Float[Array, "*n"]
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """A^T m: two arrays of four."""
    return a + b + c, b - c - d


def _spread(a: Float[Array, "*n"], b: Float[Array, "*n"]) -> list[Float[Array, "*n"]]:
    """A y, the transpose of `_sums`."""
    return [a, a + b, a - b, -b]


def _gathered(
    a: Float[Array, "*n"], b: Float[Array, "*n"], c: Float[Array, "*n"], d: Float[Array, "*n"]
) -> list[Float[Array, "*n"]]:
    """G^T m, the transpose of `_thirds`."""
    return [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d]
