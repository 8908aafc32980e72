"""Convolutions: XLA's own gradients are the reference for ours."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from tests.pairs import pairwise
from vision_jax.layers import Conv, Dense, conv
from vision_jax.layers.conv import DIMENSIONS, Double, conv2d, same_size


def test_a_convolution_by_hand():
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    kernel = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 2]], np.float32)[..., None, None]
    # above + 2 * below right, with zeros outside
    expected = np.array([[8, 10, 0], [14, 17, 2], [3, 4, 5]], np.float32)
    found = jax.jit(lambda image, kernel: conv2d(image, kernel, 1, 1))(image, kernel)
    chex.assert_trees_all_close(np.asarray(found)[0, ..., 0], expected)


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("kernel", "stride", "channels"), pairwise([(1, 0), (3, 1), (3, 0), (5, 0), (5, 1)], [1, 2], [8, 96])
)
def test_value_and_both_gradients_equal_xla(kernel, stride, channels):
    _check_against_xla((2, 9, 7, channels), channels, *kernel, stride)


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("kernel", "stride", "channels"),
    pairwise([((1, 7), (0, 3)), ((3, 1), (1, 0)), ((3, 3), (0, 1))], [1, 2], [8, 96]),
)
def test_kernels_and_borders_need_not_be_square(kernel, stride, channels):
    _check_against_xla((2, 9, 11, channels), channels, *kernel, stride)


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("kernel", "stride", "channels"),
    pairwise([(3, 1), (7, 0)], [1, 2], [(2, 16), (24, 20), (20, 24), (16, 2)]),
)
def test_a_batch_too_large_for_caches_gives_the_same(kernel, stride, channels):
    _check_against_xla((6, 64, 120, channels[0]), channels[1], *kernel, stride, atol=5e-3)


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("size", "padding", "stride", "dilation", "channels"),
    [
        (3, 1, 1, 1, (16, 20)),
        (3, 1, 1, 1, (20, 16)),
        (3, 0, 2, 1, (16, 20)),
        (3, 0, 1, 2, (20, 16)),
        ((1, 5), (0, 2), 1, 1, (20, 16)),
        ((1, 5), (0, 2), 2, 2, (16, 20)),
        (5, 2, 1, 1, (16, 20)),
        (5, 5, 1, 1, (20, 16)),
        ((5, 2), (0, 1), 1, 2, (20, 16)),
    ],
)
@pytest.mark.parametrize("part", [500, 3000])
def test_images_too_large_for_caches_give_the_same(
    size, padding, stride, dilation, part, channels, monkeypatch
):
    monkeypatch.setattr(conv, "_PART", part)
    shape = (2, 11, 10, channels[0])
    _check_against_xla(shape, channels[1], size, padding, stride, dilation=dilation)


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("size", "padding", "dilation"),
    [(3, 2, 2), (3, 7, 7), (3, 0, 2), (5, 1, 2), (1, 0, 3), ((1, 3), (0, 3), 3), ((4, 2), (2, 1), 2)],
)
@pytest.mark.parametrize(("stride", "channels"), [(1, (64, 64)), (1, (96, 16)), (1, (16, 24)), (2, (8, 8))])
def test_a_dilated_convolution_equals_the_one_of_xla(size, padding, dilation, stride, channels):
    _check_against_xla((2, 10, 11, channels[0]), channels[1], size, padding, stride, dilation=dilation)


@pytest.mark.kernels
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [1, 2])
def test_a_large_batch_of_dilated_kernels(stride, padding):
    for channels in ((20, 24), (24, 20)):
        shape = (4, 64, 90, channels[0])
        _check_against_xla(shape, channels[1], 3, padding, stride, atol=5e-3, dilation=2)


@pytest.mark.kernels
@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (1, 1), (2, 2), (4, 5), (0, 2)])
@pytest.mark.parametrize(("stride", "channels"), [(1, (3, 17)), (1, (18, 16)), (2, (2, 2))])
def test_gradients_equal_finite_differences(padding, dilation, stride, channels):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(1, 6, 5, channels[0])))
        kernel = jnp.asarray(rng.normal(size=(3, 3, *channels)))
        function = jax.jit(lambda x, kernel: conv2d(x, kernel, stride, padding, dilation))
        check_grads(function, (x, kernel), order=1, modes=("rev",), eps=1e-5, atol=1e-7, rtol=1e-7)


def test_a_dilated_convolution_by_hand():
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    kernel = np.array([[1, 0], [0, 2]], np.float32)[..., None, None]
    bare, padded = jax.jit(
        lambda image, kernel: (conv2d(image, kernel, dilation=2), conv2d(image, kernel, 1, 1, 2))
    )(image, kernel)
    assert np.ravel(bare).tolist() == [16]
    assert np.asarray(padded)[0, ..., 0].tolist() == [[8, 10, 0], [14, 16, 1], [0, 3, 4]]


def test_a_dilated_layer_keeps_the_size():
    x = jax.ShapeDtypeStruct((2, 5, 4, 3), jnp.float32)
    for layer in (Conv(7, 3, dilation=6), Conv(7, (1, 5), dilation=2)):
        y, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
        assert y.shape == (2, 5, 4, 7)


def _check_against_xla(shape, features, size, padding, stride, atol=1e-4, dilation=1):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    taps = size if isinstance(size, tuple) else (size, size)
    kernel = jnp.asarray(rng.normal(size=(*taps, shape[-1], features)), jnp.float32) / shape[-1]
    pads = [(pad, pad) for pad in (padding if isinstance(padding, tuple) else (padding, padding))]

    def reference(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            pads,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=DIMENSIONS,
            precision="highest",
        )

    expected, to_inputs = jax.vjp(reference, x, kernel)
    g = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    actual, ours_to_inputs = jax.vjp(lambda x, k: conv2d(x, k, stride, padding, dilation), x, kernel)
    chex.assert_trees_all_close(actual, expected, atol=1e-4)
    chex.assert_trees_all_close(ours_to_inputs(g), to_inputs(g), atol=atol, rtol=1e-4)


def test_layers_add_their_bias():
    x = jnp.ones((1, 2, 2, 3))
    variables = {"params": {"kernel": jnp.ones((1, 1, 3, 4)), "bias": jnp.arange(4.0)}}
    expected = jnp.broadcast_to(3 + jnp.arange(4.0), (1, 2, 2, 4))
    chex.assert_trees_all_close(Conv(4, 1).apply(variables, x), expected)
    dense = {"params": {"kernel": jnp.ones((3, 4)), "bias": jnp.arange(4.0)}}
    chex.assert_trees_all_close(Dense(4).apply(dense, x), expected)


def test_a_transposed_convolution_writes_its_kernel_at_every_cell():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    kernel = rng.normal(size=(4, 2, 2, 5)).astype(np.float32)
    variables = {"params": {"kernel": kernel, "bias": np.arange(5, dtype=np.float32)}}
    expected = np.zeros((2, 6, 4, 5)) + np.arange(5)
    for n, i, j in np.ndindex(2, 3, 2):
        expected[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += np.einsum("c,cyxo->yxo", x[n, i, j], kernel)
    np.testing.assert_allclose(Double(5).apply(variables, jnp.asarray(x)), expected, atol=1e-5)


def test_doubling_cuts_an_odd_size():
    x = jnp.array([[1.0, 2], [3, 4]])[None, ..., None]
    expected = jnp.array([[1.0, 1, 2], [1, 1, 2], [3, 3, 4]])
    chex.assert_trees_all_equal(same_size(x, (3, 3))[0, ..., 0], expected)
