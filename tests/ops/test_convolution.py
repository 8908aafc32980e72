"""Convolutions as matrices and their transposes: worked numbers, identities, kernels stamped in turn."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from vision_jax.ops.convolution import (
    averaged_transposed_convolution,
    bilinear_kernel,
    convolution_matrix_1d,
    convolution_matrix_2d,
    overlap_counts,
    resize_convolution,
    transposed_convolution,
)
from vision_jax.ops.pooling import unpool_nearest

modest = settings(max_examples=12, deadline=None)
transposed = jax.jit(transposed_convolution, static_argnums=(2, 3, 4, 5))

# (height, width), (rows, columns) of the kernel, stride, padding, dilation
CONVOLUTIONS = [
    ((4, 5), (3, 3), 1, 1, 1),
    ((6, 5), (3, 3), 2, 1, 1),
    ((6, 7), (2, 4), 2, 0, 1),
    ((7, 6), (3, 2), 3, 1, 1),
    ((7, 8), (3, 3), 1, 2, 2),
    ((8, 9), (2, 3), 2, 3, 3),
    ((3, 3), (1, 1), 2, 0, 1),
    ((3, 4), (1, 2), 1, 1, 1),
]
every_convolution = pytest.mark.parametrize(("size", "taps", "stride", "padding", "dilation"), CONVOLUTIONS)


def convolution(x, kernel, stride, padding, dilation):
    return lax.conv_general_dilated(
        x[None],
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0]


def stamped(features, kernel, stride, padding, output_padding, dilation):
    """The kernel at every pixel, times the pixel."""
    height, width, _ = features.shape
    rows, columns, outputs, _ = kernel.shape
    extent = dilation * (rows - 1) + 1, dilation * (columns - 1) + 1
    margin = output_padding + padding
    out = np.zeros((height * stride + extent[0] + margin, width * stride + extent[1] + margin, outputs))
    for m, n, i, j in np.ndindex(height, width, rows, columns):
        out[m * stride + i * dilation, n * stride + j * dilation] += kernel[i, j] @ features[m, n]
    size = [
        (length - 1) * stride + taps - 2 * padding + output_padding
        for length, taps in zip((height, width), extent, strict=True)
    ]
    return out[padding:, padding:][: size[0], : size[1]]


def test_the_matrix_of_a_signal_by_hand():
    x, y, z = 2.0, 3.0, 5.0
    kernel = jnp.array([x, y, z])
    by_one = [[y, z, 0, 0], [x, y, z, 0], [0, x, y, z], [0, 0, x, y]]
    assert convolution_matrix_1d(kernel, 4, padding=1).tolist() == by_one
    by_two = convolution_matrix_1d(kernel, 4, stride=2, padding=1)
    assert by_two.tolist() == [[y, z, 0, 0], [0, x, y, z]]
    # Its transpose takes two numbers to four: each writes the kernel, two places from the other.
    a, b = 7.0, 11.0
    assert (by_two.T @ jnp.array([a, b])).tolist() == [a * y, a * z + b * x, b * y, b * z]
    assert convolution_matrix_1d(kernel, 5, dilation=2).tolist() == [[x, 0, y, 0, z]]


def test_a_transposed_convolution_by_hand():
    row = jnp.array([7.0, 11])[None, :, None]
    kernel = jnp.array([2.0, 3, 5])[None, :, None, None]
    assert transposed(row, kernel, 2)[..., 0].tolist() == [[14, 21, 35 + 22, 33, 55]]
    assert transposed(row, kernel, 2, 0, 1)[0, :, 0].tolist() == [14, 21, 57, 33, 55, 0]
    assert transposed(row, kernel, 1, 0, 0, 2)[0, :, 0].tolist() == [14, 22, 21, 33, 35, 55]
    square = jnp.array([[1.0, 2], [3, 4]])[..., None]
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert transposed(square, jnp.ones((2, 2, 1, 1)), 2)[..., 0].tolist() == expected


@every_convolution
def test_the_matrix_is_the_convolution_and_its_transpose_the_transposed_one(
    size, taps, stride, padding, dilation
):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(*size, 3)))
        kernel = jnp.asarray(rng.normal(size=(*taps, 3, 2)))
        matrix = convolution_matrix_2d(kernel, size, stride, padding, dilation)
        y = convolution(x, kernel, stride, padding, dilation)
        chex.assert_trees_all_close(matrix @ x.ravel(), y.ravel(), atol=1e-12, rtol=0)
        # What the stride left over decides the output padding, on each axis.
        left = [
            (length + 2 * padding - dilation * (count - 1) - 1) % stride
            for length, count in zip(size, taps, strict=True)
        ]
        back = (matrix.T @ y.ravel()).reshape(*size, 3)
        whole = transposed_convolution(y, kernel, stride, padding, max(left), dilation)
        chex.assert_trees_all_close(whole[: size[0], : size[1]], back, atol=1e-12, rtol=0)
        if left[0] == left[1]:
            assert whole.shape == x.shape


def test_the_matrix_of_a_signal_is_that_of_a_map_of_one_row():
    kernel = jnp.array([2.0, 3, 5, 7])
    one = convolution_matrix_1d(kernel, 9, 2, 0, 2)
    other = convolution_matrix_2d(kernel[None, :, None, None], (1, 9), 2, 0, 2)
    chex.assert_trees_all_equal(one, other)


@pytest.mark.parametrize("taps", [(3, 3), (2, 5), (1, 1)])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (1, 1), (2, 3)])
def test_a_transposed_convolution_stamps_its_kernel(taps, stride, padding, dilation):
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(5, 6, 3)), rng.normal(size=(*taps, 2, 3))
    for output_padding in range(max(stride, dilation)):
        expected = stamped(features, kernel, stride, padding, output_padding, dilation)
        with jax.enable_x64(True):
            arrays = jnp.asarray(features), jnp.asarray(kernel)
            ours = transposed_convolution(*arrays, stride, padding, output_padding, dilation)
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@modest
@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1),
    st.integers(1, 2), st.integers(0, 2**31),
)  # fmt: skip
def test_transposing_twice_gives_the_convolution(height, width, taps, stride, padding, dilation, seed):
    sizes = [(n - 1) * stride + dilation * (taps - 1) + 1 - 2 * padding for n in (height, width)]
    assume(min(sizes) > 0)
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        small = jnp.asarray(rng.normal(size=(height, width, 2)))
        large = jnp.asarray(rng.normal(size=(*sizes, 3)))
        kernel = jnp.asarray(rng.normal(size=(taps, taps, 3, 2)))
        spread = partial(
            transposed_convolution, kernel=kernel, stride=stride, padding=padding, dilation=dilation
        )
        again = jax.linear_transpose(spread, small)(large)[0]
        chex.assert_trees_all_close(
            again, convolution(large, kernel, stride, padding, dilation), atol=1e-12, rtol=0
        )
        chex.assert_trees_all_close(jnp.vdot(spread(small), large), jnp.vdot(small, again), rtol=1e-12)


def test_overlap_counts_by_hand():
    assert overlap_counts((1, 3), (1, 3), 2).tolist() == [[1, 1, 2, 1, 2, 1, 1]]
    assert overlap_counts((1, 3), (1, 4), 2).tolist() == [[1, 1, 2, 2, 2, 2, 1, 1]]
    assert overlap_counts((1, 3), (1, 4), 2, padding=0, output_padding=1)[0, -1] == 0
    assert overlap_counts((1, 3), (1, 2), 3).tolist() == [[1, 1, 0, 1, 1, 0, 1, 1]]
    # Rows and columns multiply: the checkerboard of a 3x3 kernel at stride 2.
    board = overlap_counts((3, 3), 3, 2, padding=1)
    assert board.tolist() == [
        [1, 2, 1, 2, 1],
        [2, 4, 2, 4, 2],
        [1, 2, 1, 2, 1],
        [2, 4, 2, 4, 2],
        [1, 2, 1, 2, 1],
    ]


@modest
@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4),
    st.integers(0, 2), st.integers(0, 2), st.integers(1, 3),
)  # fmt: skip
def test_counts_are_the_transposed_convolution_of_ones(
    height, width, rows, columns, stride, padding, output_padding, dilation
):
    assume(output_padding < max(stride, dilation))
    assume((min(height, width) - 1) * stride + dilation * (min(rows, columns) - 1) + 1 > 2 * padding)
    geometry = stride, padding, output_padding, dilation
    counts = overlap_counts((height, width), (rows, columns), *geometry)
    ones = transposed_convolution(jnp.ones((height, width, 1)), jnp.ones((rows, columns, 1, 1)), *geometry)
    np.testing.assert_array_equal(counts, ones[..., 0])


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("stride", range(1, 5))
def test_there_is_no_checkerboard_just_where_the_stride_divides_the_kernel(size, stride):
    counts = overlap_counts((12, 12), size, stride)[size:-size, size:-size]
    assert (len(np.unique(counts)) == 1) == (size % stride == 0)


def test_averaging_keeps_a_constant_and_is_the_sum_over_its_counts():
    constant = averaged_transposed_convolution(jnp.full((4, 5, 1), 3.0), jnp.ones((3, 3, 1, 1)), 2, 1, 1)
    chex.assert_trees_all_close(constant, jnp.full((8, 10, 1), 3.0))
    gaps = averaged_transposed_convolution(jnp.full((1, 2, 1), 3.0), jnp.ones((1, 1, 1, 1)), 2)
    assert gaps.ravel().tolist() == [3, 0, 3]
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(5, 3, 2, 2)), jnp.float32)
    geometry = 2, 1, 1, 2
    counts = overlap_counts((3, 4), (5, 3), *geometry)[..., None]
    expected = transposed(features, kernel, *geometry) / np.maximum(counts, 1)
    chex.assert_trees_all_close(averaged_transposed_convolution(features, kernel, *geometry), expected)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("taps", [(3, 3), (4, 2), (1, 5)])
def test_resizing_then_convolving_equals_two_operations(factor, taps):
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*taps, 2, 3)), jnp.float32)
    enlarged = np.asarray(unpool_nearest(features, factor))
    rows, columns = taps
    wide = np.pad(enlarged, (((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2), (0, 0)))
    expected = np.zeros((3 * factor, 4 * factor, 3))
    for y, x, i, j in np.ndindex(3 * factor, 4 * factor, rows, columns):
        expected[y, x] += wide[y + i, x + j] @ np.asarray(kernel[i, j])
    ours = jax.jit(partial(resize_convolution, factor=factor))(features, kernel)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_resizing_bilinearly_by_hand():
    features = jnp.array([0.0, 4])[None, :, None]
    identity = jnp.ones((1, 1, 1, 1))
    ours = resize_convolution(features, identity, 2, "bilinear")
    chex.assert_trees_all_close(ours[..., 0], jnp.array([[0.0, 1, 3, 4]] * 2))
    summed = resize_convolution(features, jnp.ones((1, 3, 1, 1)), 2, "bilinear")
    chex.assert_trees_all_close(summed[0, :, 0], jnp.array([1.0, 4, 8, 7]))


def test_the_bilinear_kernel_by_hand():
    hat = np.array([0.25, 0.75, 0.75, 0.25])
    kernel = bilinear_kernel(2, 2)
    np.testing.assert_allclose(kernel[..., 0, 0], np.outer(hat, hat))
    np.testing.assert_array_equal(kernel[..., 1, 1], kernel[..., 0, 0])
    assert not kernel[..., 0, 1].any()
    hat = np.array([1, 2, 3, 2, 1]) / 3
    np.testing.assert_allclose(bilinear_kernel(3, 1)[..., 0, 0], np.outer(hat, hat), rtol=1e-6)
    assert bilinear_kernel(1, 1).tolist() == [[[[1]]]]
    # A larger one has nothing more, a smaller one is its middle.
    np.testing.assert_array_equal(
        bilinear_kernel(2, 1, 6), np.pad(bilinear_kernel(2, 1), [(1, 1)] * 2 + [(0, 0)] * 2)
    )
    np.testing.assert_array_equal(bilinear_kernel(2, 1, 2), bilinear_kernel(2, 1)[1:3, 1:3])


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 8])
def test_the_bilinear_kernel_interpolates(stride):
    features = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 2)), jnp.float32)
    ours = transposed(features, jnp.asarray(bilinear_kernel(stride, 2)), stride, stride // 2)
    expected = jax.image.resize(features, (4 * stride, 5 * stride, 2), "bilinear")
    inside = slice(stride, -stride)
    np.testing.assert_allclose(ours[inside, inside], expected[inside, inside], atol=1e-5)
    assert ours.shape == expected.shape


def test_gradients_equal_finite_differences():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        features = jnp.asarray(rng.normal(size=(3, 4, 2)))
        kernel = jnp.asarray(rng.normal(size=(3, 2, 2, 2)))
        geometry = {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 2}
        functions = (
            partial(transposed_convolution, **geometry),
            partial(averaged_transposed_convolution, **geometry),
            partial(resize_convolution, factor=2, method="bilinear"),
            lambda x, k: convolution_matrix_2d(k, (3, 4), 2, 1, 2) @ x.ravel(),
        )
        for function in functions:
            check_grads(jax.jit(function), (features, kernel), order=1, eps=1e-5, atol=1e-8, rtol=1e-8)


def test_output_padding_and_size_are_checked():
    features, kernel = jnp.ones((2, 2, 1)), jnp.ones((3, 3, 1, 1))
    for function in (transposed_convolution, averaged_transposed_convolution):
        with pytest.raises(ValueError, match="output_padding"):
            function(features, kernel, 2, 0, 2)
    with pytest.raises(ValueError, match="output_padding"):
        overlap_counts((2, 2), 3, 2, 0, -1)
    with pytest.raises(ValueError, match="wider"):
        convolution_matrix_2d(kernel, (2, 5))
    assert math.prod(transposed(features, kernel, 1, 0, 1, 2).shape) == 49
