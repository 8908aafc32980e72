"""Convolutions: XLA's own gradients are the reference for ours."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vision_jax.layers import Conv, Dense
from vision_jax.layers.conv import DIMENSIONS, Double, conv2d, same_size


def test_a_convolution_by_hand():
    image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    kernel = jnp.array([[0.0, 1, 0], [0, 0, 0], [0, 0, 2]])[..., None, None]
    # above + 2 * below right, with zeros outside
    expected = jnp.array([[8.0, 10, 0], [14, 17, 2], [3, 4, 5]])
    chex.assert_trees_all_close(conv2d(image, kernel, 1, 1)[0, ..., 0], expected)


@pytest.mark.parametrize(("size", "padding"), [(1, 0), (3, 1), (3, 0), (5, 0), (5, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [8, 96])
def test_value_and_both_gradients_equal_xla(size, padding, stride, channels):
    _check_against_xla((2, 9, 7, channels), channels, size, padding, stride)


@pytest.mark.parametrize(("size", "padding"), [((1, 7), (0, 3)), ((3, 1), (1, 0)), ((3, 3), (0, 1))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [8, 96])
def test_kernels_and_borders_need_not_be_square(size, padding, stride, channels):
    _check_against_xla((2, 9, 11, channels), channels, size, padding, stride)


@pytest.mark.parametrize(("size", "padding"), [(3, 1), (7, 0)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [(2, 16), (24, 20), (16, 2)])
def test_a_batch_too_large_for_caches_gives_the_same(size, padding, stride, channels):
    _check_against_xla((6, 64, 120, channels[0]), channels[1], size, padding, stride, atol=2e-3)


def _check_against_xla(shape, features, size, padding, stride, atol=1e-4):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    taps = size if isinstance(size, tuple) else (size, size)
    kernel = jnp.asarray(rng.normal(size=(*taps, shape[-1], features)), jnp.float32) / shape[-1]
    pads = [(pad, pad) for pad in (padding if isinstance(padding, tuple) else (padding, padding))]

    def reference(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=DIMENSIONS, precision="highest"
        )

    expected, to_inputs = jax.vjp(reference, x, kernel)
    g = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    actual, ours_to_inputs = jax.vjp(lambda x, k: conv2d(x, k, stride, padding), x, kernel)
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
