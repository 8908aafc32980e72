"""Convolutions and fully connected layers: numbers by hand."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.layers import Conv, Dense
from vision_jax.layers.conv import conv2d


def test_a_convolution_by_hand():
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    kernel = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 2]], np.float32)[..., None, None]
    # above + 2 * below right, with zeros outside
    expected = np.array([[8, 10, 0], [14, 17, 2], [3, 4, 5]], np.float32)
    found = jax.jit(lambda image, kernel: conv2d(image, kernel, 1, 1))(image, kernel)
    chex.assert_trees_all_close(np.asarray(found)[0, ..., 0], expected)


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


def test_layers_add_their_bias():
    x = jnp.ones((1, 2, 2, 3))
    variables = {"params": {"kernel": jnp.ones((1, 1, 3, 4)), "bias": jnp.arange(4.0)}}
    expected = jnp.broadcast_to(3 + jnp.arange(4.0), (1, 2, 2, 4))
    chex.assert_trees_all_close(Conv(4, 1).apply(variables, x), expected)
    dense = {"params": {"kernel": jnp.ones((3, 4)), "bias": jnp.arange(4.0)}}
    chex.assert_trees_all_close(Dense(4).apply(dense, x), expected)
