"""Max pooling: torch's windows, and the gradient of the window's maximum."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.pooling import max_pool_2x2, max_pool_3x3


def test_max_pool_takes_the_window_of_torch():
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (1, 7, 6, 2)), jnp.float32)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = [[padded[0, i : i + 3, j : j + 3].max((0, 1)) for j in (0, 2, 4)] for i in (0, 2, 4, 6)]
    np.testing.assert_array_equal(max_pool_3x3(x)[0], np.array(expected))


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (2, 3)])
def test_pooling_by_two_is_that_of_windows(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    g = jax.random.normal(jax.random.key(1), (2, size[0] // 2, size[1] // 2, 3))
    windows, of_windows = jax.vjp(lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)), x)
    pooled, of_pooled = jax.vjp(max_pool_2x2, x)
    np.testing.assert_array_equal(pooled, windows)
    np.testing.assert_array_equal(of_pooled(g)[0], of_windows(g)[0])


def test_a_tie_shares_the_gradient():
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient, 0.25)
