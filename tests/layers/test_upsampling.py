"""Doubling a map's sides: what each way does to a plain map and to a single value."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.upsampling import Upsample, same_size


def doubled(kind, x, taps):
    """Upsampled by a kernel of ones."""
    layer = Upsample(kind)

    @jax.jit
    def apply(x):
        kernel = jnp.ones((*taps, x.shape[-1], x.shape[-1]))
        params = layer.init(jax.random.key(0), x)["params"]
        return layer.apply({"params": jax.tree.map(lambda p: kernel if p.ndim == 4 else p, params)}, x)

    return np.asarray(apply(x))


def test_an_average_of_transposed_taps_has_no_checkerboard():
    plain = np.full((1, 3, 4, 2), 2, np.float32)
    found = doubled("averaged", plain, (3, 3))
    np.testing.assert_allclose(found, np.full((1, 6, 8, 2), 4), rtol=1e-6)
    # Between two inputs is their mean.
    row = np.array([1, 5], np.float32).reshape(1, 1, 2, 1)
    found = doubled("averaged", row, (3, 3))
    np.testing.assert_allclose(found[0, :, :, 0], [[1, 3, 5, 5], [1, 3, 5, 5]], rtol=1e-6)


def test_a_resized_map_is_convolved():
    row = np.array([1, 5], np.float32).reshape(1, 1, 2, 1)
    found = doubled("resize_convolution", row, (3, 3))
    np.testing.assert_allclose(found[0, :, :, 0], [[4, 14, 22, 20]] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    "kind",
    ["averaged", *(pytest.param(k, marks=pytest.mark.slow) for k in ("resize_convolution", "transposed"))],
)
def test_sampled_kernels_neither_grow_nor_shrink_a_map(kind):
    x = np.random.default_rng(0).normal(size=(4, 16, 16, 64)).astype(np.float32)
    found, _ = jax.jit(Upsample(kind).init_with_output)(jax.random.key(1), x)
    assert found.shape == (4, 32, 32, 64)
    assert 0.5 < np.std(found) < 2


def test_doubling_cuts_an_odd_size():
    x = jnp.array([[1.0, 2], [3, 4]])[None, ..., None]
    expected = jnp.array([[1.0, 1, 2], [1, 1, 2], [3, 3, 4]])
    chex.assert_trees_all_equal(same_size(x, (3, 3))[0, ..., 0], expected)
