"""Doubling a map's sides: what each way does to a plain map and to a single value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.upsampling import Upsample


def doubled(kind, x, kernel):
    layer = Upsample(kind)
    variables = layer.init(jax.random.key(0), x)
    params = jax.tree.map(lambda p: kernel if p.ndim == 4 else p, variables["params"])
    return np.asarray(layer.apply({"params": params}, x))


def test_an_average_of_transposed_taps_has_no_checkerboard():
    plain = jnp.full((1, 3, 4, 2), 2.0)
    found = doubled("averaged", plain, jnp.ones((3, 3, 2, 2)))
    np.testing.assert_allclose(found, np.full((1, 6, 8, 2), 4), rtol=1e-6)
    # Between two inputs is their mean.
    row = jnp.array([1.0, 5.0]).reshape(1, 1, 2, 1)
    found = doubled("averaged", row, jnp.ones((3, 3, 1, 1)))
    np.testing.assert_allclose(found[0, :, :, 0], [[1, 3, 5, 5], [1, 3, 5, 5]], rtol=1e-6)


def test_a_resized_map_is_convolved():
    row = jnp.array([1.0, 5.0]).reshape(1, 1, 2, 1)
    found = doubled("resize_convolution", row, jnp.ones((3, 3, 1, 1)))
    np.testing.assert_allclose(found[0, :, :, 0], [[4, 14, 22, 20]] * 2, rtol=1e-6)


@pytest.mark.parametrize("kind", ["averaged", "resize_convolution", "transposed"])
def test_drawn_kernels_neither_grow_nor_shrink_a_map(kind):
    x = jax.random.normal(jax.random.key(0), (4, 16, 16, 64))
    found, _ = Upsample(kind).init_with_output(jax.random.key(1), x)
    assert found.shape == (4, 32, 32, 64)
    assert 0.5 < found.std() < 2
