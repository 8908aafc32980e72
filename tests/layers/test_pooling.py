"""Max pooling: torch's windows, and the gradient of the window's maximum."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.pooling import (
    adaptive_average_pool,
    average_pool,
    max_pool,
    max_pool_2x2,
    max_pool_3x3,
)


def test_max_pool_takes_the_window_of_torch():
    x = np.random.default_rng(0).uniform(0, 1, (1, 7, 6, 2)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = [[padded[0, i : i + 3, j : j + 3].max((0, 1)) for j in (0, 2, 4)] for i in (0, 2, 4, 6)]
    np.testing.assert_array_equal(np.asarray(jax.jit(max_pool_3x3)(x))[0], np.array(expected))


@pytest.mark.parametrize(
    "size", [(7, 5), *(pytest.param(size, marks=pytest.mark.slow) for size in ((6, 8), (2, 3)))]
)
def test_pooling_by_two_is_that_of_windows(size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    g = rng.normal(size=(2, size[0] // 2, size[1] // 2, 3)).astype(np.float32)

    @jax.jit
    def values_and_gradients(x, g):
        windows, of_windows = jax.vjp(lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)), x)
        pooled, of_pooled = jax.vjp(max_pool_2x2, x)
        return (pooled, of_pooled(g)[0]), (windows, of_windows(g)[0])

    found, expected = values_and_gradients(x, g)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_tie_splits_the_gradient():
    gradient = jax.jit(jax.grad(lambda x: max_pool_2x2(x).sum()))(np.ones((1, 2, 2, 1), np.float32))
    np.testing.assert_array_equal(gradient, 0.25)


@pytest.mark.parametrize(
    ("length", "size", "stride", "padding", "ceil", "begins"),
    [
        (7, 3, 2, 0, False, [0, 2, 4]),
        (8, 3, 2, 0, False, [0, 2, 4]),
        (8, 3, 2, 0, True, [0, 2, 4, 6]),  # the last one reaches over the border
        (9, 3, 2, 0, True, [0, 2, 4, 6]),
        (5, 3, 1, 1, False, [-1, 0, 1, 2, 3]),
        (5, 2, 2, 1, True, [-1, 1, 3]),
        (4, 1, 3, 0, True, [0, 3]),
        (3, 2, 2, 1, True, [-1, 1]),  # one more would begin behind the border
    ],
)
def test_windows_of_any_size(length, size, stride, padding, ceil, begins):
    x = np.random.default_rng(0).normal(size=(1, length, length, 2)).astype(np.float32)
    spans = [slice(max(begin, 0), begin + size) for begin in begins]
    expected = np.array([[x[0, rows, columns].max((0, 1)) for columns in spans] for rows in spans])
    largest = jax.jit(lambda x: max_pool(x, size, stride, padding, ceil))
    np.testing.assert_array_equal(np.asarray(largest(x))[0], expected)
    if not ceil:
        x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        spans = [slice(begin + padding, begin + padding + size) for begin in begins]
        expected = np.array([[x[0, rows, columns].mean((0, 1)) for columns in spans] for rows in spans])
        average = jax.jit(lambda x: average_pool(x, size, stride))
        np.testing.assert_allclose(np.asarray(average(x))[0], expected, atol=1e-6)


def test_averages_over_windows_that_do_not_divide_the_map():
    x = jnp.asarray(np.arange(5)[None, :, None, None] + 10 * np.arange(3)[:, None], jnp.float32)
    # Rows 0 and 1, 1 to 3, 3 and 4; columns 0 and 1, 1 and 2.
    expected = np.array([0.5, 2, 3.5])[:, None] + np.array([5, 15])
    averages = np.asarray(jax.jit(lambda x: adaptive_average_pool(x, (3, 2)))(x))
    np.testing.assert_allclose(averages[0, ..., 0], expected, atol=1e-5)
    assert adaptive_average_pool(x, (5, 3)) is x
    assert jax.eval_shape(lambda x: adaptive_average_pool(x, (10, 3)), x).shape == (1, 10, 3, 1)
