"""One step of training on so many devices, and whether two of them moved the parameters alike."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest

from vision_jax.training.parallel import data_parallel, replicate, shard
from vision_jax.training.state import TrainState
from vision_jax.training.step import train_step


class Stepped(NamedTuple):
    before: Any
    run: Any
    after: Any
    metrics: Any


@pytest.fixture
def stepped():
    """(model, variables, batch, devices, accumulate) -> a first step of SGD with momentum."""

    def stepped(model, variables, batch, devices: int, accumulate: int = 1) -> Stepped:
        used, rule = jax.devices()[:devices], optax.sgd(0.01, momentum=0.9)
        before = replicate(TrainState.create(variables, rule), used)
        step = train_step(model, rule, lambda count: 0.01, accumulate=accumulate)
        run = data_parallel(step, used, donate_argnums=())
        after, metrics = run(before, shard(batch, devices), jax.random.key(1))
        assert bool(metrics.finite)
        return Stepped(before, run, after, metrics)

    return stepped


@pytest.fixture
def same_update():
    """Compares losses, running statistics and momenta, which after one step are the update unrounded."""

    def same_update(many: Stepped, one: Stepped):
        np.testing.assert_allclose(many.metrics.loss, one.metrics.loss, rtol=1e-5)
        assert len(jax.tree.leaves(one.after.opt_state)) == len(jax.tree.leaves(one.after.params))
        learnt, same = ((each.after.opt_state, each.after.collections) for each in (many, one))
        pairs = zip(jax.tree_util.tree_leaves_with_path(learnt), jax.tree.leaves(same), strict=True)
        for (path, a), b in pairs:
            assert np.linalg.norm(b) > 0, path
            assert np.linalg.norm(np.asarray(a) - b) <= 1e-4 * np.linalg.norm(b), path

    return same_update
