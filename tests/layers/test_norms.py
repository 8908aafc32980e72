"""Norms: their definitions in float64, and batches split over devices."""

import chex
import jax
import numpy as np
import pytest

from vision_jax.layers import Norm

X = np.random.default_rng(0).normal(2.0, 3.0, (8, 5, 4, 6)).astype(np.float32)


def normalized(x, axes):
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def test_batch_norm_and_its_running_statistics():
    norm = Norm("batch", momentum=0.9)

    @jax.jit
    def trained_and_in_use(x):
        variables = norm.init(jax.random.key(0), x)
        y, updated = norm.apply(variables, x, True, mutable=["batch_stats"])
        return y, updated, norm.apply({**variables, **updated}, x, False)

    y, updated, in_use = jax.tree.map(np.asarray, trained_and_in_use(X))
    np.testing.assert_allclose(y, normalized(X, (0, 1, 2)), atol=2e-5)
    statistics = updated["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * X.mean((0, 1, 2)), rtol=1e-5)
    unbiased = X.reshape(-1, 6).var(0, ddof=1)
    np.testing.assert_allclose(statistics["variance"], 0.9 + 0.1 * unbiased, rtol=1e-5)
    mean, variance = statistics["mean"], statistics["variance"]
    np.testing.assert_allclose(in_use, (X - mean) / np.sqrt(variance + 1e-5), rtol=1e-4, atol=1e-5)


def test_batch_norm_over_devices_is_batch_norm_over_the_whole_batch():
    norm = Norm("batch")
    variables = jax.jit(norm.init)(jax.random.key(0), X)

    def apply(x):
        return norm.apply(variables, x, True, mutable=["batch_stats"])

    whole, statistics = jax.jit(apply)(X)
    split, split_statistics = jax.pmap(apply, axis_name="data")(X.reshape(8, 1, 5, 4, 6))
    split, split_statistics = jax.tree.map(np.asarray, (split, split_statistics))
    np.testing.assert_allclose(split.reshape(X.shape), whole, atol=1e-5)
    for shard in range(8):
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=shard: leaf[i], split_statistics), statistics, rtol=1e-5
        )


@pytest.mark.parametrize(("groups", "used"), [(3, 3), (4, 3), (32, 6), (1, 1)])
def test_group_norm_takes_a_number_of_groups_that_divides(groups, used):
    norm = Norm("group", groups=groups)
    y, _ = jax.jit(norm.init_with_output)(jax.random.key(0), X)
    expected = normalized(X.reshape(8, 5, 4, used, 6 // used), (1, 2, 4)).reshape(X.shape)
    np.testing.assert_allclose(y, expected, atol=2e-5)


def test_frozen_norm_neither_learns_nor_moves():
    norm = Norm("frozen")

    @jax.jit
    def trained(x):
        variables = norm.init(jax.random.key(0), x)
        gradient = jax.grad(lambda v: norm.apply(v, x, True).sum())(variables)
        return variables, norm.apply(variables, x, True, mutable=["batch_stats"]), gradient

    variables, (y, updated), gradient = jax.tree.map(np.asarray, trained(X))
    np.testing.assert_allclose(y, X / np.sqrt(1 + 1e-5), rtol=1e-6)
    chex.assert_trees_all_equal(updated["batch_stats"], variables["batch_stats"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["params"]))


def test_a_constant_map_is_finite():
    for kind in ("batch", "group"):
        norm = Norm(kind)
        constant = np.full((2, 3, 3, 4), 1000, np.float32)

        @jax.jit
        def apply(x, norm=norm):
            return norm.apply(norm.init(jax.random.key(0), x), x, True, mutable=["batch_stats"])

        y, _ = apply(constant)
        np.testing.assert_allclose(y, 0, atol=1)
