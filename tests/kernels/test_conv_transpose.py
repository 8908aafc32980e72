"""Transposed convolutions for CPUs beside the operation of one map and the definition."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vision_jax.kernels import conv_transpose
from vision_jax.layers.conv_transpose import conv_transpose2d, plain_conv_transpose2d
from vision_jax.ops.convolution import transposed_convolution

pytestmark = pytest.mark.kernels

# (rows, columns) of the kernel, stride, padding, output padding
GEOMETRIES = [
    ((2, 2), 2, 0, 0),
    ((4, 4), 2, 1, 0),
    ((3, 3), 2, 1, 1),
    ((3, 3), 2, 0, 1),
    ((3, 5), 3, 1, 2),
    ((1, 1), 2, 0, 1),
    ((2, 5), 4, 0, 3),
    ((3, 3), 1, 1, 0),
    ((1, 2), 1, 1, 0),
    ((16, 16), 8, 4, 0),
    ((9, 8), 9, 0, 0),
]


def arrays(taps, channels, batch=2):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, 5, 4, channels[0])), jnp.float32)
    return x, jnp.asarray(rng.normal(size=(*taps, channels[1], channels[0])) / channels[0], jnp.float32)


def value_and_gradients(function, x, kernel):
    @jax.jit
    def both(x, kernel):
        value, pull = jax.vjp(function, x, kernel)
        return value, pull(jnp.sin(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape))

    return both(x, kernel)


@pytest.mark.parametrize(("taps", "stride", "padding", "output_padding"), GEOMETRIES)
@pytest.mark.parametrize(("channels", "cache"), [((3, 4), 2**22), ((18, 16), 1)])
def test_it_is_the_operation_of_each_map(taps, stride, padding, output_padding, channels, cache, monkeypatch):
    monkeypatch.setattr(conv_transpose, "_CACHE", cache)
    x, kernel = arrays(taps, channels)
    geometry = {"stride": stride, "padding": padding, "output_padding": output_padding}

    def one_by_one(x, kernel):
        return jax.vmap(lambda x: transposed_convolution(x, kernel, **geometry))(x)

    ours = value_and_gradients(partial(conv_transpose2d, **geometry), x, kernel)
    expected = value_and_gradients(one_by_one, x, kernel)
    chex.assert_trees_all_close(ours, expected, atol=2e-4, rtol=1e-4)
    chex.assert_trees_all_close(
        plain_conv_transpose2d(x, kernel, **geometry), expected[0], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("taps", "stride", "padding", "output_padding"), GEOMETRIES)
def test_gradients_equal_finite_differences(taps, stride, padding, output_padding):
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(array, float) for array in arrays(taps, (2, 2), batch=1))
        function = jax.jit(lambda x, k: conv_transpose2d(x, k, stride, padding, output_padding))
        check_grads(function, (x, kernel), order=1, modes=("rev",), eps=1e-5, atol=1e-8, rtol=1e-8)
