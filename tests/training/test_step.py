import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from tiny_training import TinyNet, make_batch

from vision_jax.training.experiment import TrainConfig
from vision_jax.training.optimizers import learning_rate, optimizer
from vision_jax.training.parallel import (
    check_batch_size,
    data_parallel,
    gather,
    local_devices,
    replicate,
    shard,
)
from vision_jax.training.state import TrainState, check_fits, initial_variables
from vision_jax.training.step import evaluation_step, train_step
from vision_jax.types import Mean, UserError

SGD = TrainConfig(
    steps=20, learning_rate=0.1, warmup_steps=0, schedule="constant", clip_norm=0.0, weight_decay=1e-2
)


def uneven_batch(size=16):
    """Ids far apart, the fourth of 8 devices without any label, others with one or two."""
    batch = make_batch(np.arange(size) * 7 + 1)
    labels = batch.labels.copy()
    labels[6:8] = -1
    return batch.replace(labels=labels)


def trained(model, devices, steps, batches, config=SGD):
    used = local_devices(devices)
    rule = optimizer(config)
    variables = initial_variables(model, jax.random.key(1), jax.tree.map(lambda x: x[:2], batches[0]))
    state = replicate(TrainState.create(variables, rule), used)
    step = data_parallel(train_step(model, rule, learning_rate(config)), used)
    for i in range(steps):
        state, metrics = step(state, shard(batches[i % len(batches)], devices), jax.random.key(2))
    return variables, state, jax.device_get(metrics)


def test_eight_devices_take_the_step_of_one():
    batch = uneven_batch()
    before, one, metrics_one = trained(TinyNet(), 1, 1, [batch])
    _, eight, metrics_eight = trained(TinyNet(), 8, 1, [batch])

    def relative_error(start, a, b):
        update = np.linalg.norm(np.asarray(a) - np.asarray(start))
        assert update > 1e-4
        return np.linalg.norm(np.asarray(a) - np.asarray(b)) / update

    errors = jax.tree.map(relative_error, before, one.variables, jax.device_get(eight.variables))
    assert max(jax.tree.leaves(errors)) <= 1e-4, errors
    for name in ("entropy", "size"):
        np.testing.assert_allclose(metrics_one.terms[name], metrics_eight.terms[name], rtol=1e-5)
    np.testing.assert_allclose(metrics_one.grad_norm, metrics_eight.grad_norm, rtol=1e-4)


@pytest.mark.parametrize("axis", ["data", None])
def test_all_shards_are_equal_after_ten_steps(axis):
    """With batch norm that shares its moments, and with one that leaves them to the step."""
    _, state, _ = trained(TinyNet(axis=axis), 8, 10, [uneven_batch(), uneven_batch(24)])
    assert int(state.step) == 10
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        assert len(leaf.addressable_shards) == 8
        first = np.asarray(leaf.addressable_shards[0].data)
        for other in leaf.addressable_shards[1:]:
            assert np.asarray(other.data).tobytes() == first.tobytes(), path


class Scalar(nn.Module):
    """loss = w * x, weighted: gradients can be done by hand."""

    @nn.compact
    def __call__(self, batch):
        return self.param("w", nn.initializers.ones, ())

    def loss(self, batch, train=True):
        loss = {"term": Mean(self(batch) * jnp.sum(batch["x"] * batch["weight"]), jnp.sum(batch["weight"]))}
        return {**loss, "absent": Mean(0.0 * self(batch), jnp.float32(0))}

    def predict(self, batch):
        return {
            "twice": 2 * self(batch) * batch["x"],
            "where": jnp.arange(2) + 10 * jax.lax.axis_index("data"),
        }


def scalar_batch(**changes):
    """One device with one value of 9, another with five of 3."""
    return {
        "x": np.array([9, 3, 3, 3, 3, 3, 3, 3, 3, 3], np.float32),
        "weight": np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 1], np.float32),
        **changes,
    }


def test_a_mean_over_devices_is_weighted_by_what_counts():
    _, state, metrics = trained(Scalar(), 2, 1, [scalar_batch()])
    assert metrics.terms["term"] == pytest.approx(4.0)  # the mean of the two devices' means is 6
    assert metrics.terms["absent"] == 0.0
    assert metrics.loss == pytest.approx(4.0)
    assert metrics.grad_norm == pytest.approx(4.0)
    assert float(state.params["w"]) == pytest.approx(1 - 0.1 * 4.0)
    assert metrics.learning_rate == pytest.approx(0.1)
    assert bool(metrics.finite)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 3e38])
def test_a_step_that_is_not_finite_leaves_the_state_alone(poison):
    x = scalar_batch()["x"]
    x[7] = poison
    good, bad = scalar_batch(), scalar_batch(x=np.where(x == 3, poison, x).astype(np.float32))
    _, once, _ = trained(Scalar(), 2, 1, [good])
    _, state, metrics = trained(Scalar(), 2, 2, [good, bad])
    assert not bool(metrics.finite)
    assert int(state.step) == 1
    for kept, expected in zip(jax.tree.leaves(state), jax.tree.leaves(once), strict=True):
        assert np.asarray(kept).tobytes() == np.asarray(expected).tobytes()


def test_evaluation_adds_losses_and_keeps_the_order_of_predictions():
    used = local_devices(5)
    step = data_parallel(evaluation_step(Scalar()), used, out_axes=(None, 0), donate_argnums=())
    variables = replicate({"params": {"w": jnp.float32(1)}}, used)
    losses, predictions = step(variables, shard(scalar_batch(), 5), jax.random.key(0))
    assert (float(losses["term"].total), float(losses["term"].weight)) == (24.0, 6.0)
    predictions = gather(predictions)
    np.testing.assert_array_equal(predictions["twice"], 2 * scalar_batch()["x"])
    np.testing.assert_array_equal(predictions["where"], [0, 1, 10, 11, 20, 21, 30, 31, 40, 41])


def test_initial_variables_are_those_of_a_plain_initialisation():
    batch = uneven_batch(4)
    keys = dict(zip(("params", "sample"), jax.random.split(jax.random.key(1)), strict=True))
    plain = jax.jit(lambda: TinyNet().init(keys, batch, method="loss"))()
    ours = initial_variables(TinyNet(), jax.random.key(1), batch)
    assert jax.tree.structure(plain) == jax.tree.structure(ours)
    for expected, leaf in zip(jax.tree.leaves(plain), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(expected, leaf, rtol=1e-6)


def test_a_checkpoint_of_another_model_is_refused_by_name():
    batch = uneven_batch(4)
    variables = initial_variables(TinyNet(), jax.random.key(1), batch)
    check_fits(TinyNet(), variables, batch, "checkpoint 3")
    with pytest.raises(UserError, match=r"checkpoint 3 .*params/head/bias is float32\[3\].*float32\[4\]"):
        check_fits(TinyNet(num_classes=4), variables, batch, "checkpoint 3")


def test_batches_that_cannot_be_split_name_the_nearest_sizes():
    check_batch_size(8, 4)
    with pytest.raises(UserError, match=r"batch_size: 10 .* 4 devices; use 8 or 12"):
        check_batch_size(10, 4)
    with pytest.raises(UserError, match=r"use 4, or fewer"):
        check_batch_size(3, 4)
    with pytest.raises(UserError, match=r"9 asked for, this machine has 8"):
        local_devices(9)


def test_shard_and_gather_are_inverse():
    batch = uneven_batch(8)
    parts = shard(batch, 4)
    assert parts.image.shape == (4, 2, 8, 8, 3)
    np.testing.assert_array_equal(parts.id[1], batch.id[2:4])
    for a, b in zip(jax.tree.leaves(gather(parts)), jax.tree.leaves(batch), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_step_is_compiled_once():
    traces = []

    def step(state, batch, key):
        traces.append(1)
        return state + jax.lax.psum(batch.sum(), "data")

    used = local_devices(2)
    compiled = data_parallel(step, used)
    state = replicate(jnp.float32(0), used)
    for _ in range(3):
        state = compiled(state, np.ones((2, 3), np.float32), jax.random.key(0))
    assert float(state) == 18.0
    assert len(traces) == 1
