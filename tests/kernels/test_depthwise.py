"""Depthwise convolutions for CPUs beside the definition: XLA's grouped convolution."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.depthwise import DepthwiseConv, plain_depthwise


@pytest.mark.parametrize(
    ("size", "stride", "shape"),
    [
        (3, 1, (7, 6)),
        (5, 2, (8, 3)),
        pytest.param(3, 2, (7, 6), marks=pytest.mark.slow),
        pytest.param(5, 1, (1, 1), marks=pytest.mark.slow),
    ],
)
def test_each_channel_has_its_own_kernel(size, stride, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape, 4)).astype(np.float32)
    layer = DepthwiseConv(size, stride)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    kernel = variables["params"]["kernel"]

    def ours(x, kernel):
        return layer.apply({"params": {"kernel": kernel}}, x)

    def plain(x, kernel):
        return plain_depthwise(x, kernel, stride=stride)

    @jax.jit
    def values_and_gradients(x, kernel, g):
        expected, theirs = jax.vjp(plain, x, kernel)
        found, pull = jax.vjp(ours, x, kernel)
        return (found, pull(g)), (expected, theirs(g))

    shape = jax.eval_shape(ours, x, kernel).shape
    found, expected = values_and_gradients(x, kernel, rng.normal(size=shape).astype(np.float32))
    chex.assert_trees_all_close(found[0], expected[0], atol=1e-5)
    chex.assert_trees_all_close(found[1], expected[1], atol=1e-4)


def test_half_precision_is_summed_in_float32():
    rng = np.random.default_rng(0)
    x, kernel = (rng.uniform(size=shape).astype(jnp.bfloat16) for shape in ((1, 9, 9, 4), (7, 7, 1, 4)))
    layer = DepthwiseConv(7, 1)

    def convolved(x, kernel):
        return layer.apply({"params": {"kernel": kernel}}, x)

    found, exact = jax.jit(
        lambda x, kernel: (
            convolved(x, kernel),
            convolved(x.astype(jnp.float32), kernel.astype(jnp.float32)),
        )
    )(x, kernel)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found).astype(np.float32), exact, rtol=2.0**-8)
