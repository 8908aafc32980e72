"""Layers compute in their parameters' dtype; norms keep float32 inside."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers import FPN, Conv, Dense, Norm

slow = pytest.mark.slow
X = np.random.default_rng(0).normal(0.0, 1.0, (2, 8, 6, 16)).astype(np.float32)


def halved(variables):
    """Parameters in bfloat16, statistics as they are."""
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables["params"])
    return {**variables, "params": params}


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(Conv(16, 1), id="1x1", marks=slow),
        pytest.param(Conv(16, 3), id="3x3"),
        pytest.param(Conv(16, 3, stride=2), id="strided", marks=slow),
        pytest.param(Conv(4, 3), id="narrow", marks=slow),
        pytest.param(Dense(8), id="dense"),
    ],
)
def test_inputs_are_cast_to_the_kernel_and_gradients_agree_with_float32(layer):
    variables = jax.jit(layer.init)(jax.random.key(0), X)

    def value(params, x, dtype):
        cast = jax.tree.map(lambda x: x.astype(dtype), params)
        y = layer.apply({"params": cast}, x)
        assert y.dtype == dtype
        return jnp.sum(jnp.sin(y.astype(jnp.float32)))

    @jax.jit
    def gradients(params, x):
        return [jax.grad(value)(params, x, dtype) for dtype in (jnp.float32, jnp.bfloat16)]

    both = jax.tree.map(np.asarray, gradients(variables["params"], X))
    for full, half in zip(*map(jax.tree.leaves, both), strict=True):
        assert half.dtype == jnp.float32  # through the cast, the gradient of a float32 weight
        assert np.linalg.norm(full - half) <= 5e-2 * np.linalg.norm(full)
        assert np.linalg.norm(full - half) > 0


@pytest.mark.parametrize("kind", ["batch", "group", "frozen"])
def test_norms_of_bfloat16_maps_have_float32_moments(kind):
    """A map far from 0: bfloat16 knows 256 and 258 but not 257, so moments in it would be wrong by far."""
    x = (X + 257).astype(jnp.bfloat16)
    norm = Norm(kind)

    @jax.jit
    def narrow_and_wide(x):
        variables = norm.init(jax.random.key(0), x)
        of_halves = norm.apply(halved(variables), x, True, mutable=["batch_stats"])
        return of_halves, norm.apply(variables, x.astype(jnp.float32), True, mutable=["batch_stats"])

    (y, updated), (expected, reference) = jax.tree.map(np.asarray, narrow_and_wide(x))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(np.float32), expected, rtol=1e-2, atol=1e-2)
    for a, b in zip(jax.tree.leaves(updated), jax.tree.leaves(reference), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)


def test_a_stack_of_layers_has_the_parameters_dtype():
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.relu(Norm("batch")(Conv(16)(x), train))
            return FPN(16, "group")({"c2": x, "c3": Conv(16, stride=2)(x)}, train)

    def maps_of_halves(x):
        return Stack().apply(halved(Stack().init(jax.random.key(0), x)), x)

    maps = jax.eval_shape(maps_of_halves, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(maps)} == {jnp.dtype(jnp.bfloat16)}
