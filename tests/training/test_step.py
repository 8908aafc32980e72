"""The training step: weights over devices and microbatches, precision, averages, what is not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from tests.training.tiny_training import TinyNet, make_batch
from vision_jax.layers import Conv, Dense, Norm, normalize
from vision_jax.training.experiment import TrainConfig
from vision_jax.training.optimizers import Numbers, learning_rate, optimizer
from vision_jax.training.parallel import (
    check_batch_size,
    data_parallel,
    gather,
    local_devices,
    replicate,
    shard,
)
from vision_jax.training.state import TrainState, initial_variables
from vision_jax.training.step import configured_state, configured_step, evaluation_step, train_step
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


def trained(model, devices, steps, batches, config=SGD, **options):
    used = local_devices(devices)
    rule = optimizer(config)
    variables = initial_variables(model, jax.random.key(1), jax.tree.map(lambda x: x[:2], batches[0]))
    state = replicate(TrainState.create(variables, rule, ema="ema" in options), used)
    step = data_parallel(train_step(model, rule, learning_rate(config), **options), used)
    for i in range(steps):
        state, metrics = step(state, shard(batches[i % len(batches)], devices), jax.random.key(2))
    return variables, state, jax.device_get(metrics)


def update_errors(before, a, b):
    """|a - b| by |a - before|, for every tensor that moved; those that did not must be equal."""

    def one(start, x, y):
        update = np.linalg.norm(np.asarray(x) - np.asarray(start))
        difference = np.linalg.norm(np.asarray(x) - np.asarray(y))
        return difference / update if update > 1e-4 else float(difference > 0)

    return jax.tree.map(one, before, jax.device_get(a), jax.device_get(b))


def assert_same_metrics(a, b, rtol=1e-5):
    for name in ("entropy", "size"):
        np.testing.assert_allclose(a.terms[name], b.terms[name], rtol=rtol)
    np.testing.assert_allclose(a.grad_norm, b.grad_norm, rtol=10 * rtol)


STEPWISE = TrainConfig(
    steps=6,
    learning_rate=0.1,
    schedule="step",
    milestones=(0.3, 0.6),
    clip_norm=0.5,
    weight_decay=1e-2,
    ema=0.9,
    adadelta_epsilon=1.0,
)
OTHER_NUMBERS = {
    "steps": 7, "learning_rate": 0.05, "warmup_steps": 2, "milestones": (0.5, 0.7), "decay": 0.5,
    "clip_norm": 0.1, "momentum": 0.5, "weight_decay": 0.1, "ema": 0.5, "reference_batch": 8,
    "rms_decay": 0.5, "rms_epsilon": 0.1, "adadelta_rho": 0.5, "adadelta_epsilon": 0.1,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["sgd", "rmsprop", "adadelta"])
def test_settings_that_are_numbers_act_and_share_a_program(rule):
    batch, used, key = uneven_batch(), local_devices(1), jax.random.key(2)
    variables = initial_variables(TinyNet(), jax.random.key(1), batch)
    base, programs = dataclasses.replace(STEPWISE, optimizer=rule), []
    for config in (base, dataclasses.replace(base, **OTHER_NUMBERS)):
        step = data_parallel(configured_step(TinyNet(), config), used, donate_argnums=())
        state = replicate(configured_state(variables, config), used)
        programs.append(step.lower(state, shard(batch, 1), key).as_text())
        for _ in range(6):
            state, metrics = step(state, shard(batch, 1), key)
        # As constants of the program.
        _, expected, expected_metrics = trained(TinyNet(), 1, 6, [batch], config, ema=config.ema)
        errors = update_errors(variables, state.variables, expected.variables)
        assert max(jax.tree.leaves(errors)) < 1e-4
        errors = update_errors(variables, state.averaged, expected.averaged)
        assert max(jax.tree.leaves(errors)) < 1e-4
        assert metrics.learning_rate == pytest.approx(expected_metrics.learning_rate, rel=1e-6)
    assert programs[0] == programs[1]
    # Each of them is one that a step reads.
    numbers = Numbers.of(base)
    for name in vars(numbers):
        assert not np.array_equal(getattr(numbers, name), getattr(Numbers.of(config), name))


def test_eight_devices_take_the_step_of_one():
    batch = uneven_batch()
    before, one, metrics_one = trained(TinyNet(), 1, 1, [batch])
    _, eight, metrics_eight = trained(TinyNet(), 8, 1, [batch])
    errors = update_errors(before, one.variables, eight.variables)
    assert max(jax.tree.leaves(errors)) <= 1e-4, errors
    assert_same_metrics(metrics_one, metrics_eight)


@pytest.mark.slow
def test_eight_devices_in_four_parts_take_the_step_of_one_in_one():
    """32 images: each of the 32 parts has one, labeled or not, counted or not; the statistics are fixed."""
    batch = uneven_batch(32)
    model = TinyNet(frozen=True)
    before, one, metrics_one = trained(model, 1, 1, [batch])
    for devices, accumulate in ((8, 4), (1, 2)):
        _, parts, metrics_parts = trained(model, devices, 1, [batch], accumulate=accumulate)
        errors = update_errors(before["params"], one.params, parts.params)
        assert max(jax.tree.leaves(errors)) <= 1e-4, errors
        assert_same_metrics(metrics_one, metrics_parts)


@pytest.mark.slow
def test_running_means_under_accumulation_are_those_of_the_whole_batch():
    """And one step further, not one for each part; variances are those of the parts."""
    batch = uneven_batch(32)
    _, whole, _ = trained(TinyNet(), 2, 1, [batch])
    _, parts, _ = trained(TinyNet(), 2, 1, [batch], accumulate=4)
    a, b = (state.collections["batch_stats"]["norm1"] for state in (whole, parts))
    np.testing.assert_allclose(a["mean"], b["mean"], rtol=1e-5, atol=1e-7)
    assert np.all(np.asarray(b["var"]) <= np.asarray(a["var"]) + 1e-7)
    assert np.all(np.asarray(b["var"]) > 0.9)


class LayerNet(nn.Module):
    """This package's layers, with statistics of both kinds, and float32 logits."""

    @nn.compact
    def __call__(self, batch, train=False):
        x = nn.relu(Norm("batch", name="norm1")(Conv(16, name="conv1")(normalize(batch.image)), train))
        x = nn.relu(Norm("group", groups=1, name="norm2")(Conv(16, name="conv2")(x), train)).mean((1, 2))
        return {"logits": Dense(3, name="head")(x).astype(jnp.float32)}

    def loss(self, batch, train=True):
        logits = self(batch, train)["logits"]
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(batch.labels, 0))
        return {"entropy": Mean.over(entropy, where=batch.labels >= 0)}


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_bfloat16_trains_and_agrees_with_float32_within_its_precision(accumulate):
    batch = uneven_batch(16)
    config = dataclasses.replace(SGD, learning_rate=0.5)
    before, full, exact = trained(LayerNet(), 2, 1, [batch], config, accumulate=accumulate)
    options = {"precision": "bfloat16", "accumulate": accumulate}
    _, half, first = trained(LayerNet(), 2, 1, [batch], config, **options)
    assert {leaf.dtype for leaf in jax.tree.leaves((half.params, half.opt_state, half.collections))} <= {
        jnp.dtype(jnp.float32),
        jnp.dtype(jnp.int32),
    }
    params = {name: before["params"][name] for name in ("conv1", "conv2", "head")}
    moved = [{name: state.params[name]["kernel"] for name in params} for state in (full, half)]
    errors = update_errors({name: params[name]["kernel"] for name in params}, *moved)
    # Three digits leave 0.4 % for the head, and 1 % for what comes after the norms.
    assert max(jax.tree.leaves(errors)) <= 0.05, errors
    assert min(jax.tree.leaves(errors)) >= 1e-5, errors  # it is not float32 under another name
    np.testing.assert_allclose(first.loss, exact.loss, rtol=5e-3)
    for a, b in zip(jax.tree.leaves(full.collections), jax.tree.leaves(half.collections), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)
    _, _, last = trained(LayerNet(), 2, 12, [batch], config, **options)
    assert float(last.loss) < 0.5 * float(first.loss)
    assert first.loss.dtype == np.float32


def test_the_average_by_hand_statistics_and_counters_included():
    """w goes 1, 0.6, 0.2 (its gradient is 4); the average keeps 1/10 and then min(0.15, 2/11) of itself."""
    config = dataclasses.replace(SGD, momentum=0.0, weight_decay=0.0)
    _, state, _ = trained(Counted(), 2, 2, [scalar_batch()], config, ema=0.15)
    first = 0.1 * 1.0 + 0.9 * 0.6
    assert float(state.params["w"]) == pytest.approx(0.2)
    assert float(state.averaged["params"]["w"]) == pytest.approx(0.15 * first + 0.85 * 0.2)
    first = 0.1 * 0.0 + 0.9 * 10.0
    assert float(state.averaged["seen"]["mean"]) == pytest.approx(0.15 * first + 0.85 * 20.0)
    assert int(state.averaged["seen"]["count"]) == 4
    assert state.evaluation_variables is state.averaged


def test_the_average_of_a_frozen_part_is_that_part():
    """To the bit: 0.9 x + 0.1 x rounds to something else."""
    _, state, _ = trained(TinyNet(), 1, 6, [uneven_batch()], ema=0.9, freeze=("conv1", "norm1"))
    for collection, module in (("params", "conv1"), ("params", "norm1"), ("batch_stats", "norm1")):
        average, now = state.averaged[collection][module], state.variables[collection][module]
        jax.tree.map(np.testing.assert_array_equal, average, now)
    assert (state.averaged["params"]["head"]["kernel"] != state.params["head"]["kernel"]).all()


def test_the_average_does_not_move_with_a_step_that_is_not_finite_and_shares_no_memory():
    poisoned = scalar_batch(x=np.full(10, np.nan, np.float32))
    _, once, _ = trained(Scalar(), 1, 1, [scalar_batch()], ema=0.9)
    _, state, _ = trained(Scalar(), 1, 2, [scalar_batch(), poisoned], ema=0.9)  # the state is donated
    assert float(state.averaged["params"]["w"]) == float(once.averaged["params"]["w"])
    assert float(state.averaged["params"]["w"]) != float(state.params["w"])


@pytest.mark.parametrize("axis", ["data", pytest.param(None, marks=pytest.mark.slow)])
def test_all_shards_are_equal_after_ten_steps(axis):
    """With batch norm that synchronizes its moments, and with one that leaves this to the step."""
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


class Counted(Scalar):
    """With a statistic and a counter; `loss` comes by twice a step."""

    @nn.compact
    def __call__(self, batch):
        mean = self.variable("seen", "mean", lambda: jnp.float32(0))
        count = self.variable("seen", "count", lambda: jnp.int32(0))
        if not self.is_initializing():
            mean.value, count.value = mean.value + 5, count.value + 1
        return self.param("w", nn.initializers.ones, ())


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


class ByExample(Scalar):
    """The same loss, an example at a time."""

    def loss(self, batch, train=True):
        return {"term": Mean(self(batch) * batch["x"] * batch["weight"], batch["weight"])}


@pytest.mark.parametrize("accumulate", [1, 5])
def test_a_term_may_be_given_an_example_at_a_time(accumulate):
    _, state, metrics = trained(Scalar(), 2, 1, [scalar_batch()])
    _, by_example, same = trained(ByExample(), 2, 1, [scalar_batch()], accumulate=accumulate)
    assert same.terms["term"] == metrics.terms["term"] == 4
    assert float(by_example.params["w"]) == float(state.params["w"])


def test_a_mean_by_hand_with_values_that_do_not_count_and_weights():
    values = jnp.array([[1.0, 2.0, jnp.nan], [4.0, 5.0, 6.0]])
    where = jnp.array([[True, True, False], [False, True, True]])
    weights = jnp.array([[1.0, 0.5, jnp.nan], [jnp.inf, 0.0, 2.0]])
    for mean, total, weight in (
        (Mean.over(values[1]), 15, 3),
        (Mean.over(values, where), 14, 4),
        (Mean.over(values, where, weights), 1 + 1 + 12, 3.5),
        (Mean.over(values[1], weights=jnp.array([0.5, 1, 2])), 2 + 5 + 12, 3.5),
        # One weight for each row, column, and for all.
        (Mean.over(values, where, jnp.array([[3.0], [1.0]])), 9 + 11, 8),
        (Mean.over(values, where, jnp.array([3.0, 1.0, 0.5])), 3 + 2 + 5 + 3, 3 + 1 + 1 + 0.5),
        (Mean.over(values[1].astype(jnp.bfloat16), weights=jnp.float32(0.25)), 3.75, 0.75),
        (Mean.over(values, where & False, weights), 0, 0),
    ):
        assert (float(mean.total), float(mean.weight)) == (total, weight)
        assert mean.total.dtype == mean.weight.dtype == jnp.float32
        assert mean.total.shape == mean.weight.shape == ()
        assert float(mean.value()) == pytest.approx(total / weight if weight else 0)


def test_gradients_of_a_weighted_mean_pass_by_values_that_do_not_count():
    values = jnp.array([1.0, jnp.nan, jnp.inf])
    weights, where = jnp.array([2.0, jnp.nan, 3.0]), jnp.array([True, False, False])
    total, pullback = jax.vjp(lambda v, w: Mean.over(v, where, w).total, values, weights)
    assert float(total) == 2
    for gradient, expected in zip(pullback(jnp.float32(1)), ([2, 0, 0], [1, 0, 0]), strict=True):
        np.testing.assert_array_equal(gradient, expected)


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
    step = data_parallel(evaluation_step(Scalar()), used, out_axes=(None, 0, 0), donate_argnums=())
    variables = replicate({"params": {"w": jnp.float32(1)}}, used)
    losses, _, predictions = step(variables, shard(scalar_batch(), 5), jax.random.key(0))
    assert (float(losses["term"].total), float(losses["term"].weight)) == (24.0, 6.0)
    predictions = gather(predictions)
    np.testing.assert_array_equal(predictions["twice"], 2 * scalar_batch()["x"])
    np.testing.assert_array_equal(predictions["where"], [0, 1, 10, 11, 20, 21, 30, 31, 40, 41])


def test_batches_that_cannot_be_split_name_the_nearest_sizes():
    check_batch_size(8, 4)
    with pytest.raises(UserError, match=r"batch_size: 10 .* 4 devices; use 8 or 12"):
        check_batch_size(10, 4)
    check_batch_size(16, 2, 4)
    with pytest.raises(UserError, match=r"12 .* 2 devices x 4 microbatches; use 8 or 16"):
        check_batch_size(12, 2, 4)
    with pytest.raises(UserError, match=r"use 4, or fewer"):
        check_batch_size(3, 4)
    with pytest.raises(UserError, match=r"9 requested, this machine has 8"):
        local_devices(9)


def test_shard_and_gather_are_inverse():
    batch = uneven_batch(8)
    parts = shard(batch, 4)
    assert parts.image.shape == (4, 2, 8, 8, 3)
    np.testing.assert_array_equal(parts.id[1], batch.id[2:4])
    for a, b in zip(jax.tree.leaves(gather(parts)), jax.tree.leaves(batch), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("devices", [1, 2])
def test_originals_survive_a_step_that_donates_its_state(devices):
    used = local_devices(devices)
    original, host = jnp.arange(3.0), np.arange(3, dtype=np.float32)
    state = replicate({"a": original, "b": host}, used)
    step = data_parallel(lambda state, batch, key: jax.tree.map(lambda x: x + 1, state), used)
    step(state, np.zeros((devices, 1), np.float32), jax.random.key(0))
    np.testing.assert_array_equal(original, host)
    np.testing.assert_array_equal(host, [0, 1, 2])


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
