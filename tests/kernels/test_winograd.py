"""3x3 convolutions by Winograd's products beside the definition, in float64."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.kernels import winograd

pytestmark = pytest.mark.kernels


def convolved(x, kernel, padding):
    """The definition, tap by tap."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = x.shape[1] - 2, x.shape[2] - 2
    return sum(x[:, i : i + height, j : j + width] @ kernel[i, j] for i, j in np.ndindex(3, 3))


@partial(jax.jit, static_argnums=3)
def all_three(x, kernel, g, padding):
    return (
        winograd.convolve(x, kernel, padding),
        winograd.kernel_gradient(x, g, padding),
        winograd.input_gradient(g, kernel, padding),
    )


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.integers(1, 4),
    st.integers(1, 2), st.integers(0, 2**31),
)  # fmt: skip
def test_value_and_gradients_are_those_of_the_definition(
    batch, height, width, inputs, outputs, padding, seed
):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, height, width, inputs))
    kernel = rng.normal(size=(3, 3, inputs, outputs))
    expected = convolved(x, kernel, padding)
    g = rng.normal(size=expected.shape)
    with jax.enable_x64(True):
        actual, to_kernel, to_inputs = all_three(x, kernel, g, padding)
    chex.assert_trees_all_close(np.asarray(actual), expected, atol=1e-12)
    # Both gradients by their definition: the inner product with g is linear in kernel and inputs.
    other_x, other_kernel = rng.normal(size=x.shape), rng.normal(size=kernel.shape)
    assert np.sum(np.asarray(to_kernel) * other_kernel) == pytest.approx(
        np.sum(g * convolved(x, other_kernel, padding)), abs=1e-9
    )
    assert np.sum(np.asarray(to_inputs) * other_x) == pytest.approx(
        np.sum(g * convolved(other_x, kernel, padding)), abs=1e-9
    )


def test_float32_rounds_as_a_plain_convolution_does():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 14, 15, 96)), rng.normal(size=(3, 3, 96, 96)) / 30
    exact = convolved(x, kernel, 1)
    ours = winograd.convolve(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), 1)
    assert np.abs(ours - exact).max() < 3e-6 * np.abs(exact).max()
