"""Convolutions as matrices and their transposes: worked numbers, identities, kernels stamped in turn."""

import itertools
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
slow = pytest.mark.slow
transposed = jax.jit(transposed_convolution, static_argnums=(2, 3, 4, 5))
averaged = jax.jit(averaged_transposed_convolution, static_argnums=(2, 3, 4, 5))
resized = jax.jit(resize_convolution, static_argnums=(2, 3))

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
every_convolution = pytest.mark.parametrize(
    ("size", "taps", "stride", "padding", "dilation"),
    [pytest.param(*case, marks=[] if i in (1, 2, 5, 7) else slow) for i, case in enumerate(CONVOLUTIONS)],
)


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
    by_one, by_two, dilated = jax.jit(
        lambda kernel: (
            convolution_matrix_1d(kernel, 4, padding=1),
            convolution_matrix_1d(kernel, 4, stride=2, padding=1),
            convolution_matrix_1d(kernel, 5, dilation=2),
        )
    )(np.array([x, y, z], np.float32))
    assert by_one.tolist() == [[y, z, 0, 0], [x, y, z, 0], [0, x, y, z], [0, 0, x, y]]
    assert by_two.tolist() == [[y, z, 0, 0], [0, x, y, z]]
    # Its transpose takes two numbers to four: each writes the kernel, two positions from the other.
    a, b = 7.0, 11.0
    assert (np.asarray(by_two).T @ np.array([a, b])).tolist() == [a * y, a * z + b * x, b * y, b * z]
    assert dilated.tolist() == [[x, 0, y, 0, z]]


def test_a_transposed_convolution_by_hand():
    row = np.array([7, 11], np.float32)[None, :, None]
    kernel = np.array([2, 3, 5], np.float32)[None, :, None, None]
    square = np.array([[1, 2], [3, 4]], np.float32)[..., None]

    @jax.jit
    def four(row, kernel, square, ones):
        return (
            transposed_convolution(row, kernel, 2),
            transposed_convolution(row, kernel, 2, 0, 1),
            transposed_convolution(row, kernel, 1, 0, 0, 2),
            transposed_convolution(square, ones, 2),
        )

    found = four(row, kernel, square, np.ones((2, 2, 1, 1), np.float32))
    plain, padded, dilated, of_square = (np.asarray(array)[..., 0] for array in found)
    assert plain.tolist() == [[14, 21, 35 + 22, 33, 55]]
    assert padded[0].tolist() == [14, 21, 57, 33, 55, 0]
    assert dilated[0].tolist() == [14, 22, 21, 33, 35, 55]
    assert of_square.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


@every_convolution
def test_the_matrix_is_the_convolution_and_its_transpose_the_transposed_one(
    size, taps, stride, padding, dilation
):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(*size, 3)), rng.normal(size=(*taps, 3, 2))
    # What the stride left over decides the output padding, on each axis.
    left = [
        (length + 2 * padding - dilation * (count - 1) - 1) % stride
        for length, count in zip(size, taps, strict=True)
    ]

    @jax.jit
    def there_and_back(x, kernel):
        y = convolution(x, kernel, stride, padding, dilation)
        matrix = convolution_matrix_2d(kernel, size, stride, padding, dilation)
        return matrix, y, transposed_convolution(y, kernel, stride, padding, max(left), dilation)

    with jax.enable_x64(True):
        matrix, y, whole = map(np.asarray, there_and_back(x, kernel))
    assert matrix.dtype == y.dtype == whole.dtype == np.float64
    np.testing.assert_allclose(matrix @ x.ravel(), y.ravel(), atol=1e-12, rtol=0)
    back = (matrix.T @ y.ravel()).reshape(*size, 3)
    np.testing.assert_allclose(whole[: size[0], : size[1]], back, atol=1e-12, rtol=0)
    if left[0] == left[1]:
        assert whole.shape == x.shape


def test_the_matrix_of_a_signal_is_that_of_a_map_of_one_row():
    one, other = jax.jit(
        lambda kernel: (
            convolution_matrix_1d(kernel, 9, 2, 0, 2),
            convolution_matrix_2d(kernel[None, :, None, None], (1, 9), 2, 0, 2),
        )
    )(np.array([2, 3, 5, 7], np.float32))
    chex.assert_trees_all_equal(one, other)


STAMPS = list(itertools.product([(3, 3), (2, 5), (1, 1)], [1, 3], [(0, 1), (1, 1), (2, 3)]))
STAMPED = [((2, 5), 3, 2, 3), ((3, 3), 1, 1, 1)]  # by default


@pytest.mark.parametrize(
    ("taps", "stride", "padding", "dilation"),
    [
        pytest.param(taps, stride, *rest, marks=[] if (taps, stride, *rest) in STAMPED else slow)
        for taps, stride, rest in STAMPS
    ],
)
def test_a_transposed_convolution_stamps_its_kernel(taps, stride, padding, dilation):
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(5, 6, 3)), rng.normal(size=(*taps, 2, 3))
    output_paddings = range(max(stride, dilation))
    with jax.enable_x64(True):
        several = jax.jit(
            lambda *arrays: [
                transposed_convolution(*arrays, stride, padding, more, dilation) for more in output_paddings
            ]
        )(features, kernel)
    for output_padding, ours in zip(output_paddings, several, strict=True):
        expected = stamped(features, kernel, stride, padding, output_padding, dilation)
        np.testing.assert_allclose(ours, expected, atol=1e-12)


def check_transposing_twice(height, width, taps, stride, padding, dilation, seed):
    sizes = [(n - 1) * stride + dilation * (taps - 1) + 1 - 2 * padding for n in (height, width)]
    rng = np.random.default_rng(seed)
    small, large = rng.normal(size=(height, width, 2)), rng.normal(size=(*sizes, 3))
    kernel = rng.normal(size=(taps, taps, 3, 2))

    @jax.jit
    def worked(small, large, kernel):
        spread = partial(
            transposed_convolution, kernel=kernel, stride=stride, padding=padding, dilation=dilation
        )
        again = jax.linear_transpose(spread, small)(large)[0]
        return spread(small), again, convolution(large, kernel, stride, padding, dilation)

    with jax.enable_x64(True):
        spread, again, expected = map(np.asarray, worked(small, large, kernel))
    np.testing.assert_allclose(again, expected, atol=1e-12, rtol=0)
    np.testing.assert_allclose(np.vdot(spread, large), np.vdot(small, again), rtol=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "taps", "stride", "padding", "dilation"), [(4, 3, 3, 2, 1, 2), (3, 5, 4, 3, 0, 1)]
)
def test_transposing_twice_gives_the_convolution(height, width, taps, stride, padding, dilation):
    check_transposing_twice(height, width, taps, stride, padding, dilation, seed=0)


@slow
@modest
@given(
    st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1),
    st.integers(1, 2), st.integers(0, 2**31),
)  # fmt: skip
def test_transposing_twice_gives_the_convolution_of_any_geometry(
    height, width, taps, stride, padding, dilation, seed
):
    assume((min(height, width) - 1) * stride + dilation * (taps - 1) + 1 > 2 * padding)
    check_transposing_twice(height, width, taps, stride, padding, dilation, seed)


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


def check_counts(shape, taps, *geometry):
    counts = overlap_counts(shape, taps, *geometry)
    ones = transposed(np.ones((*shape, 1), np.float32), np.ones((*taps, 1, 1), np.float32), *geometry)
    np.testing.assert_array_equal(counts, np.asarray(ones)[..., 0])


@pytest.mark.parametrize(
    ("shape", "taps", "stride", "padding", "output_padding", "dilation"),
    [((3, 5), (4, 2), 2, 1, 1, 3), ((6, 1), (3, 5), 4, 0, 2, 1)],
)
def test_counts_are_the_transposed_convolution_of_ones(
    shape, taps, stride, padding, output_padding, dilation
):
    check_counts(shape, taps, stride, padding, output_padding, dilation)


@slow
@modest
@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4),
    st.integers(0, 2), st.integers(0, 2), st.integers(1, 3),
)  # fmt: skip
def test_counts_of_any_geometry_are_the_transposed_convolution_of_ones(
    height, width, rows, columns, stride, padding, output_padding, dilation
):
    assume(output_padding < max(stride, dilation))
    assume((min(height, width) - 1) * stride + dilation * (min(rows, columns) - 1) + 1 > 2 * padding)
    check_counts((height, width), (rows, columns), stride, padding, output_padding, dilation)


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("stride", range(1, 5))
def test_there_is_no_checkerboard_just_where_the_stride_divides_the_kernel(size, stride):
    counts = overlap_counts((12, 12), size, stride)[size:-size, size:-size]
    assert (len(np.unique(counts)) == 1) == (size % stride == 0)


def test_averaging_keeps_a_constant_and_is_the_sum_over_its_counts():
    ones = np.ones((3, 3, 1, 1), np.float32)
    constant = averaged(np.full((4, 5, 1), 3, np.float32), ones, 2, 1, 1)
    chex.assert_trees_all_close(constant, np.full((8, 10, 1), 3, np.float32))
    gaps = averaged(np.full((1, 2, 1), 3, np.float32), ones[:1, :1], 2)
    assert np.ravel(gaps).tolist() == [3, 0, 3]
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 4, 2)).astype(np.float32)
    kernel = rng.normal(size=(5, 3, 2, 2)).astype(np.float32)
    geometry = 2, 1, 1, 2
    counts = overlap_counts((3, 4), (5, 3), *geometry)[..., None]
    expected = np.asarray(transposed(features, kernel, *geometry)) / np.maximum(counts, 1)
    chex.assert_trees_all_close(averaged(features, kernel, *geometry), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("factor", "taps"),
    [
        (3, (4, 2)),
        *(
            pytest.param(factor, taps, marks=slow)
            for factor, taps in itertools.product([1, 2, 3], [(3, 3), (4, 2), (1, 5)])
            if (factor, taps) != (3, (4, 2))
        ),
    ],
)
def test_resizing_then_convolving_equals_two_operations(factor, taps):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 4, 2)).astype(np.float32)
    kernel = rng.normal(size=(*taps, 2, 3)).astype(np.float32)
    enlarged = np.asarray(jax.jit(unpool_nearest, static_argnums=1)(features, factor))
    rows, columns = taps
    wide = np.pad(enlarged, (((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2), (0, 0)))
    expected = np.zeros((3 * factor, 4 * factor, 3))
    for y, x, i, j in np.ndindex(3 * factor, 4 * factor, rows, columns):
        expected[y, x] += wide[y + i, x + j] @ kernel[i, j]
    np.testing.assert_allclose(resized(features, kernel, factor), expected, atol=1e-5)


def test_resizing_bilinearly_by_hand():
    features = np.array([0, 4], np.float32)[None, :, None]
    ones = np.ones((1, 3, 1, 1), np.float32)
    ours = np.asarray(resized(features, ones[:, :1], 2, "bilinear"))
    chex.assert_trees_all_close(ours[..., 0], np.float32([[0, 1, 3, 4]] * 2))
    summed = np.asarray(resized(features, ones, 2, "bilinear"))
    chex.assert_trees_all_close(summed[0, :, 0], np.float32([1, 4, 8, 7]))


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


@pytest.mark.parametrize("stride", [3, 4, *(pytest.param(stride, marks=slow) for stride in (1, 2, 5, 8))])
def test_the_bilinear_kernel_interpolates(stride):
    features = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    ours = np.asarray(transposed(features, bilinear_kernel(stride, 2), stride, stride // 2))
    larger = 4 * stride, 5 * stride, 2
    expected = np.asarray(jax.jit(lambda x: jax.image.resize(x, larger, "bilinear"))(features))
    inside = slice(stride, -stride)
    np.testing.assert_allclose(ours[inside, inside], expected[inside, inside], atol=1e-5)
    assert ours.shape == expected.shape


GEOMETRY = {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 2}


@pytest.mark.parametrize(
    "function",
    [
        partial(transposed_convolution, **GEOMETRY),
        pytest.param(partial(averaged_transposed_convolution, **GEOMETRY), marks=slow),
        pytest.param(partial(resize_convolution, factor=2, method="bilinear"), marks=slow),
        pytest.param(lambda x, k: convolution_matrix_2d(k, (3, 4), 2, 1, 2) @ x.ravel(), marks=slow),
    ],
    ids=["transposed", "averaged", "resized", "matrix"],
)
def test_gradients_equal_finite_differences(function):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        arrays = jnp.asarray(rng.normal(size=(3, 4, 2))), jnp.asarray(rng.normal(size=(3, 2, 2, 2)))
        check_grads(jax.jit(function), arrays, order=1, eps=1e-5, atol=1e-8, rtol=1e-8)


def test_output_padding_and_size_are_checked():
    features, kernel = np.ones((2, 2, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
    for function in (transposed_convolution, averaged_transposed_convolution):
        with pytest.raises(ValueError, match="output_padding"):
            function(features, kernel, 2, 0, 2)
    with pytest.raises(ValueError, match="output_padding"):
        overlap_counts((2, 2), 3, 2, 0, -1)
    with pytest.raises(ValueError, match="wider"):
        convolution_matrix_2d(kernel, (2, 5))
    larger = jax.eval_shape(partial(transposed_convolution, output_padding=1, dilation=2), features, kernel)
    assert math.prod(larger.shape) == 49
