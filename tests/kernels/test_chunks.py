"""Work on used rows only: the function's values and gradients, wherever the used rows are."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from vision_jax.ops import map_used


@partial(jax.jit, static_argnums=2)
def sines(inputs, used, chunk):
    return map_used(lambda r: (jnp.sin(r["x"]), r["n"] + 1), inputs, used, chunk)


def check_used_rows(used, chunk):
    used = np.array(used)
    rows = np.random.default_rng(0).normal(size=(len(used), 3)).astype(np.float32)
    inputs = {"x": rows, "n": np.arange(len(used))}
    got = sines(inputs, used, chunk)
    chex.assert_trees_all_close(got[0], np.where(used[:, None], np.sin(rows), 0), rtol=1e-6)
    np.testing.assert_array_equal(got[1], np.where(used, np.arange(len(used)) + 1, 0))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=7, max_size=7), st.sampled_from([3, 7]))
def test_every_used_row_and_zeros_elsewhere(used, chunk):
    check_used_rows(used, chunk)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=11), st.integers(1, 5))
def test_every_used_row_of_any_number_and_zeros_elsewhere(used, chunk):
    check_used_rows(used, chunk)


def test_gradients_of_rows_and_of_what_the_function_closes_over():
    used = np.array([False, True, False, True, True, False, False])
    with jax.enable_x64(True):
        rows = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)))
        scale = jnp.asarray([1.0, 2.0, 0.5])

        @jax.jit
        def total(rows, scale):
            return jnp.sum(map_used(lambda r: jnp.tanh(r * scale), rows, used, 2) ** 2)

        check_grads(total, (rows, scale), order=1, modes=["rev"])
        gradient = np.asarray(jax.jit(jax.grad(total))(rows, scale))
    np.testing.assert_array_equal(gradient[~used], 0)


def test_an_empty_chunk_is_not_computed():
    calls = []

    def counted(rows):
        jax.debug.callback(lambda: calls.append(1))
        return rows

    used = np.arange(12) % 6 == 5
    jax.block_until_ready(jax.jit(lambda x: map_used(counted, x, used, 2))(np.ones((12, 1), np.float32)))
    jax.effects_barrier()
    assert len(calls) == 1
