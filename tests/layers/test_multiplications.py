"""Multiplications of a network, counted by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax.layers import Conv, ConvTranspose, Dense
from vision_jax.layers.conv_transpose import ConvTranspose2x2
from vision_jax.layers.depthwise import DepthwiseConv
from vision_jax.layers.multiplications import multiplications


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = Conv(4, (3, 1), 2)(x)  # 3 x 3 positions of 3 * 1 * 2 weights for each of 4
        x = DepthwiseConv(5)(x)  # 3 x 3 positions of 25 weights for each of 4
        x = ConvTranspose2x2(3)(x)  # 3 x 3 pixels of 4 * 2 * 2 * 3 weights
        x = ConvTranspose(2, 4, 2)(x)  # 6 x 6 positions of 3 * 4 * 4 * 2 weights
        return Dense(7)(x.mean((1, 2)))  # 2 * 7 weights


def test_multiplications_of_each_layer_are_counted():
    image = jax.ShapeDtypeStruct((2, 5, 6, 2), jnp.float32)
    variables = jax.eval_shape(Network().init, jax.random.key(0), image)
    expected = 9 * 6 * 4 + 9 * 25 * 4 + 9 * 48 + 36 * 96 + 14
    assert multiplications(Network().apply, variables, image) == 2 * expected
