"""Convolutions as matrices, their transposes, and upsampling without checkerboards.

A convolution is a sparse matrix on flattened maps (Dumoulin and Visin 2016, section 4.1); the transposed
convolution is that matrix transposed, and so goes from the smaller map to the larger one. Where its kernel's
size is no multiple of its stride, some outputs are sums of more inputs than their neighbors, which shows as
a checkerboard (Odena, Dumoulin and Olah 2016, "Deconvolution and Checkerboard Artifacts").

As everywhere a convolution is a cross-correlation: its kernel is not flipped. All functions are of one image.

Features and kernels may be of any dtype. Convolutions come out in the wider one of the two if it is floating,
in float32 if both are integers, which would wrap. A matrix has its kernel's dtype.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num

from vision_jax.ops.pooling import unpool_nearest

Method = Literal["nearest", "bilinear"]

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolution_matrix_1d(
    kernel: Num[Array | np.ndarray, " k"], length: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Num[Array, "n {length}"]:
    """The matrix of a cross-correlation of signals.

    Args:
        kernel: one tap a position.
        length: of the signals.
        stride: between the positions of the kernel, in samples.
        padding: zeros on each side of the signal.
        dilation: from one tap to the next, in samples.

    Returns:
        A row for each of the `(length + 2 * padding - dilation * (k - 1) - 1) // stride + 1` outputs.

    Raises:
        ValueError: the kernel reaches farther than the padded signal.
    """
    taps = jnp.asarray(_taps_of_outputs(len(kernel), length, stride, padding, dilation), kernel.dtype)
    return jnp.einsum("ntl,t->nl", taps, kernel, precision=lax.Precision.HIGHEST)


def convolution_matrix_2d(
    kernel: Num[Array | np.ndarray, "kh kw i o"],
    size: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Num[Array, "m n"]:
    """The matrix of a cross-correlation of maps.

    Args:
        kernel: one tap per position, input and output channel.
        size: (h, w) of the maps.
        stride: between the positions of the kernel, in pixels.
        padding: zeros on each side of the map.
        dilation: from one tap to the next, in pixels.

    Returns:
        A row for each number of the output [hh, ww, o], a column for each of the input [h, w, i], both in the
        order of `reshape(-1)`.

    Raises:
        ValueError: the kernel reaches farther than the padded map.
    """
    rows, columns = (
        jnp.asarray(_taps_of_outputs(taps, length, stride, padding, dilation), kernel.dtype)
        for taps, length in zip(kernel.shape[:2], size, strict=True)
    )
    highest = lax.Precision.HIGHEST
    matrix = jnp.einsum("nal,mbk,abio->nmolki", rows, columns, kernel, precision=highest)
    return matrix.reshape(math.prod(matrix.shape[:3]), -1)


def _taps_of_outputs(
    taps: int, length: int, stride: int, padding: int, dilation: int
) -> Int[np.ndarray, "n {taps} {length}"]:
    """1 where an output's tap lies on an input."""
    outputs = (length + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    if outputs < 1:
        raise ValueError(f"{taps} taps of dilation {dilation} are wider than {length} + 2 * {padding}")
    inputs = stride * np.arange(outputs)[:, None] - padding + dilation * np.arange(taps)
    return (inputs[:, :, None] == np.arange(length)).astype(np.int8)


def transposed_convolution(
    features: Num[Array | np.ndarray, "h w i"],
    kernel: Num[Array | np.ndarray, "kh kw o i"],
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Float[Array, "hh ww o"]:
    """Writes the kernel at every pixel, times the pixel, and adds where it overlaps.

    It is the transpose of the convolution with this very kernel, stride, padding and dilation, which reads
    `o` channels and gives `i`: `convolution_matrix_2d(kernel, (hh, ww), ...).T` on the flattened features.

    Args:
        features: a feature map.
        kernel: one tap per position, output and input channel; torch's weight [i, o, kh, kw] otherwise
        arranged. stride: from what one pixel writes to what the next one does, in pixels. padding: rows and
        columns of the outcome that are cut from each side, as the convolution pads. output_padding: of them
        that are kept, or added, below and on the right, where a convolution whose stride does not divide its
        input leaves some out. Less than the stride or the dilation. dilation: from one tap to the next, in
        pixels.

    Returns:
        `(h - 1) * stride + dilation * (kh - 1) + 1 - 2 * padding + output_padding` rows, columns likewise.

    Raises:
        ValueError: the output padding is too large.
    """
    _check(output_padding, stride, dilation)
    features, kernel = _floats(features, kernel)
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    around = [dilation * (taps - 1) - padding for taps in kernel.shape[:2]]
    return lax.conv_general_dilated(
        features[None],
        flipped,
        (1, 1),
        [(pad, pad + output_padding) for pad in around],
        lhs_dilation=(stride, stride),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=DIMENSIONS,
    )[0]


def _floats(
    features: Num[Array | np.ndarray, "..."], kernel: Num[Array | np.ndarray, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Both in the wider dtype of the two, float32 if that is an integer's: what `lax` wants."""
    dtype = jnp.result_type(features, kernel)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.float32
    return jnp.asarray(features).astype(dtype), jnp.asarray(kernel).astype(dtype)


def _check(output_padding: int, stride: int, dilation: int) -> None:
    """A ValueError where the output padding is negative or too large."""
    if not 0 <= output_padding < max(stride, dilation):
        raise ValueError(f"output_padding {output_padding} must be less than {max(stride, dilation)}")


def overlap_counts(
    size: tuple[int, int],
    kernel_size: int | tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Int[np.ndarray, "hh ww"]:
    """How many inputs reach each output of a transposed convolution: its checkerboard.

    They are equal away from the border if, and only if, as many taps fall on each remainder of the stride:
    without dilation, if the stride divides the kernel's size.

    Args:
        size: (h, w) of the input.
        kernel_size: rows and columns of taps.
        stride: as in `transposed_convolution`.
        padding: as there.
        output_padding: as there.
        dilation: as there.

    Returns:
        int32, one count for each pixel of the outcome.

    Raises:
        ValueError: the output padding is too large.
    """
    _check(output_padding, stride, dilation)
    taps = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    counts = []
    for length, count in zip(size, taps, strict=True):
        outputs = (length - 1) * stride + dilation * (count - 1) + 1 - 2 * padding + output_padding
        written = stride * np.arange(length)[:, None] + dilation * np.arange(count) - padding
        counts.append(np.sum(written[:, :, None] == np.arange(outputs), axis=(0, 1), dtype=np.int32))
    return counts[0][:, None] * counts[1]


def averaged_transposed_convolution(
    features: Num[Array | np.ndarray, "h w i"],
    kernel: Num[Array | np.ndarray, "kh kw o i"],
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Float[Array, "hh ww o"]:
    """A transposed convolution that takes the mean of what overlaps, not the sum: a constant stays constant
    under a constant kernel.

    Args:
        features: a feature map.
        kernel: as in `transposed_convolution`.
        stride: as there.
        padding: as there.
        output_padding: as there.
        dilation: as there.

    Returns:
        A map of its size; 0 where no input reaches.

    Raises:
        ValueError: the output padding is too large.
    """
    arguments = (stride, padding, output_padding, dilation)
    summed = transposed_convolution(features, kernel, *arguments)
    size, taps = features.shape[:2], kernel.shape[:2]
    counts = overlap_counts((size[0], size[1]), (taps[0], taps[1]), *arguments)
    return summed / jnp.asarray(np.maximum(counts, 1)[..., None], summed.dtype)


def resize_convolution(
    features: Num[Array | np.ndarray, "h w i"],
    kernel: Num[Array | np.ndarray, "kh kw i o"],
    factor: int = 2,
    method: Method = "nearest",
) -> Float[Array, "{factor}*h {factor}*w o"]:
    """Enlarges a map, then convolves it: every output is a sum of equally many inputs (Odena et al. 2016).

    Args:
        features: a feature map.
        kernel: one tap per position, input and output channel. The convolution keeps the enlarged map's size;
            an even kernel has its extra row of zeros below, its extra column on the right.
        factor: enlargement along each axis.
        method: how; bilinear continues the border's pixels.

    Returns:
        The larger map.

    Raises:
        ValueError: the factor is less than 1.
    """
    if factor < 1:
        raise ValueError(f"a factor of {factor} does not enlarge: give 1 or more")
    features, kernel = _floats(features, kernel)
    if method == "nearest":
        enlarged = unpool_nearest(features, factor)
    else:
        height, width, channels = features.shape
        enlarged = jax.image.resize(features, (factor * height, factor * width, channels), method)
    pads = [((taps - 1) // 2, taps // 2) for taps in kernel.shape[:2]]
    return lax.conv_general_dilated(enlarged[None], kernel, (1, 1), pads, dimension_numbers=DIMENSIONS)[0]


def bilinear_kernel(
    stride: int, channels: int, size: int | None = None
) -> Float[np.ndarray, "k k {channels} {channels}"]:
    """The kernel with which a transposed convolution interpolates (Long et al. 2015, section 3.3).

    With this stride, and at the default size a padding of `stride // 2`, a map becomes `stride` times as
    large, each channel by itself. Away from the border that is bilinear interpolation between pixels'
    centers; at the border the map fades into zeros.

    Args:
        stride: enlargement.
        channels: of the map.
        size: rows and columns; `2 * stride - stride % 2` if None, which are all that are not 0.

    Returns:
        float32, a hat in the middle.

    Raises:
        ValueError: the stride is less than 1.
    """
    if stride < 1:
        raise ValueError(f"a stride of {stride} does not enlarge: give 1 or more")
    size = 2 * stride - stride % 2 if size is None else size
    hat = np.maximum(1 - abs(np.arange(size) - (size - 1) / 2) / stride, 0)
    return (np.outer(hat, hat)[..., None, None] * np.eye(channels)).astype(np.float32)
