"""Running values are moved once a step, by sums over all that counted, on any number of devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vision_jax.layers.running import RunningMean, RunningSum
from vision_jax.training.experiment import TrainConfig
from vision_jax.training.parallel import data_parallel, local_devices, replicate, shard
from vision_jax.training.state import initial_variables
from vision_jax.training.step import configured_state, configured_step
from vision_jax.types import Mean

CONFIG = TrainConfig(
    steps=9, learning_rate=0.1, momentum=0.0, weight_decay=0.0, clip_norm=0.0, warmup_steps=0,
    schedule="constant",
)  # fmt: skip
DECAY = 0.75


class Reinforced(nn.Module):
    """loss = w * (x - baseline) an example, where it counts; two running means, of x and of its columns."""

    @nn.compact
    def loss(self, batch, train=True):
        x, counts = batch["x"], batch["counts"]
        mean = Mean.over(x[:, 0], where=counts)
        baseline = RunningMean(DECAY, initial=2.0, name="baseline")(mean, train)
        columns = Mean((x * batch["weights"]).sum(0), batch["weights"].sum(0))
        RunningMean(DECAY, (3,), name="columns")(columns, train)
        RunningSum(name="seen")(counts.sum(), train)
        RunningSum((3,), jnp.float32, name="mass")(batch["weights"].sum(0), train)
        w = self.param("w", nn.initializers.ones, ())
        advantage = jnp.where(counts, x[:, 0] - baseline, 0)
        return {"by_example": Mean(w * advantage, jnp.float32(counts)), "w": Mean(w, jnp.float32(1))}


def batches():
    """Of 16: the examples that count are few, most of them the last device's; in the third batch none."""
    rng = np.random.default_rng(0)
    found = []
    for step in range(4):
        counts = np.arange(16) % 5 == step
        counts[13:] = True
        weights = rng.uniform(0, 1, (16, 3)) * (np.arange(16) % 3 == 0)[:, None]
        weights[:, 1] = 0
        if step == 2:
            counts[:], weights[:] = False, 0
        x = rng.normal(np.arange(16)[:, None], 1, (16, 3))
        found.append({"x": np.float32(x), "counts": counts, "weights": np.float32(weights)})
    return found


def trained(devices, config=CONFIG, model=None):
    model, used = model or Reinforced(), local_devices(devices)
    variables = initial_variables(model, jax.random.key(0), batches()[0])
    state = replicate(configured_state(variables, config), used)
    step = data_parallel(configured_step(model, config), used)
    told = []
    for batch in batches():
        state, metrics = step(state, shard(batch, devices), jax.random.key(0))
        told.append(jax.device_get(metrics))
    return state, told


@pytest.mark.parametrize(
    ("devices", "accumulate"),
    [(1, 1), (8, 1), (2, 4), pytest.param(1, 8, marks=pytest.mark.slow)],
)
def test_values_and_losses_are_those_of_the_whole_batch(devices, accumulate):
    state, told = trained(devices, dataclasses.replace(CONFIG, accumulate=accumulate))
    means, sums = (state.collections[name] for name in ("running_means", "running_sums"))
    baseline, columns, w, seen, mass = 2.0, np.zeros(3), 1.0, 0, np.zeros(3)
    for batch, metrics in zip(batches(), told, strict=True):
        x, counts, weights = batch["x"], batch["counts"], batch["weights"]
        loss = np.mean(x[counts, 0] - baseline) if counts.any() else 0.0
        np.testing.assert_allclose(metrics.terms["by_example"], w * loss, rtol=1e-5)
        w -= 0.1 * (loss + 1)  # the other term is w
        if counts.any():
            baseline = DECAY * baseline + (1 - DECAY) * x[counts, 0].mean()
        for k in (0, 2):
            if weights[:, k].any():
                mean = (x * weights)[:, k].sum() / weights[:, k].sum()
                columns[k] = DECAY * columns[k] + (1 - DECAY) * mean
        seen, mass = seen + counts.sum(), mass + weights.sum(0)
    np.testing.assert_allclose(means["baseline"]["value"], baseline, rtol=1e-5)
    np.testing.assert_allclose(means["columns"]["value"], columns, rtol=1e-5)
    assert int(sums["seen"]["value"]) == seen
    np.testing.assert_allclose(sums["mass"]["value"], mass, rtol=1e-5)
    for entry in (*means.values(), *sums.values()):
        assert all(not np.any(entry[name]) for name in ("total", "weight") if name in entry)
    for leaf in jax.tree.leaves(state):
        assert len({np.asarray(part.data).tobytes() for part in leaf.addressable_shards}) == 1


def test_an_average_of_the_variables_has_the_newest_running_values():
    state, _ = trained(2, dataclasses.replace(CONFIG, ema=0.9))
    for name in ("running_means", "running_sums"):
        jax.tree.map(np.testing.assert_array_equal, state.averaged[name], state.collections[name])
    assert state.averaged["params"]["w"] != state.params["w"]


def test_evaluation_reads_and_does_not_write():
    model, batch = Reinforced(), batches()[0]
    variables = initial_variables(model, jax.random.key(0), batch)
    for entry in (variables["running_means"]["baseline"], variables["running_sums"]["seen"]):
        assert not entry["total"]  # initialization does not count
    terms = model.apply(variables, batch, train=False, method="loss")
    expected = (batch["x"][:, 0] - 2) * batch["counts"]
    np.testing.assert_allclose(terms["by_example"].total, expected, rtol=1e-6)
