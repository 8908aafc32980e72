"""Convolutions of each channel by itself: XLA's grouped convolution is the reference."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.depthwise import DepthwiseConv


@pytest.mark.parametrize(
    ("size", "stride", "shape"), [(3, 1, (7, 6)), (3, 2, (7, 6)), (5, 2, (8, 3)), (5, 1, (1, 1))]
)
def test_each_channel_has_its_own_kernel(size, stride, shape):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *shape, 4)), jnp.float32)
    layer = DepthwiseConv(size, stride)
    variables = layer.init(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]

    def ours(x, kernel):
        return layer.apply({"params": {"kernel": kernel}}, x)

    def xla(x, kernel):
        return layer.apply(variables, x, kernel, method="_by_groups")

    expected, theirs = jax.vjp(xla, x, kernel)
    found, pull = jax.vjp(ours, x, kernel)
    chex.assert_trees_all_close(found, expected, atol=1e-5)
    g = jnp.asarray(rng.normal(size=found.shape), jnp.float32)
    chex.assert_trees_all_close(pull(g), theirs(g), atol=1e-4)


def test_half_precision_is_summed_in_float32():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.uniform(size=shape), jnp.bfloat16) for shape in ((1, 9, 9, 4), (7, 7, 1, 4)))
    layer = DepthwiseConv(7, 1)
    exact = layer.apply({"params": {"kernel": kernel.astype(jnp.float32)}}, x.astype(jnp.float32))
    found = layer.apply({"params": {"kernel": kernel}}, x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2.0**-8)
