"""What every system owes the trainer: static shapes, a gradient for every parameter, programs anywhere.

The files beside this one run it over a family each, so that the families are spread over the processes of a
test run.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any, ClassVar

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from tests.systems import System
from vision_jax.training import step
from vision_jax.training.checkpoints import Checkpoints, TrainingProgress
from vision_jax.training.parallel import data_parallel, replicate, shard
from vision_jax.training.state import TrainState
from vision_jax.training.step import train_step
from vision_jax.types import Mean

# What compiles most asks it of one system of a kind, not of each variant.
ONE_OF_A_KIND = (
    "test_the_step_and_predictions_lower_for_gpus_and_tpus",
    "test_eight_devices_take_the_step_of_one",
)


@cache
def shapes(system: System) -> tuple[Any, Any, Any]:
    """A system's model, a batch of two for it, and the shapes of its variables."""
    model, batch = system.model(), system.batch(2)
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    return model, batch, jax.eval_shape(lambda b: dict(model.init(keys, b, method="loss")), batch)


def random_variables(tree: Any) -> Any:
    """Variables of given shapes: parameters at random, so that nothing begins at zero; statistics of noise.

    Numpy samples them, so that nothing is compiled for it.
    """
    rng = np.random.default_rng(0)

    def sample(path: Any, leaf: Any) -> Any:
        names = [str(key.key) for key in path]
        if names[0] != "params":
            return np.full(leaf.shape, "var" in names[-1], leaf.dtype)
        fan_in = max(1, math.prod(leaf.shape[:-1]))
        scale = 1 / math.sqrt(fan_in) if len(leaf.shape) > 1 else 0.3
        mean = 1.0 if names[-1] == "scale" else 0.0
        return rng.normal(mean, scale, leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(sample, tree)


def shapes_of(model: Any, variables: Any, batch: Any, **options: Any) -> Any:
    """The shapes that a method of the model returns."""

    def call(variables: Any, batch: Any) -> Any:
        return model.apply(variables, batch, rngs={"sample": jax.random.key(0)}, **options)

    return jax.eval_shape(call, variables, batch)


class Contract:
    """The tests, for every system of a family; a subclass names them.

    Attributes:
        systems: by name.
    """

    systems: ClassVar[dict[str, System]] = {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """A case for each system."""
        of_a_kind = metafunc.function.__name__ in ONE_OF_A_KIND
        cases = [
            pytest.param(system, id=name, marks=[pytest.mark.slow] if system.slow else [])
            for name, system in self.systems.items()
            if not (of_a_kind and system.variant)
        ]
        metafunc.parametrize("system", cases)

    def test_outputs_losses_and_predictions_have_static_shapes(self, system):
        model, batch, variables = shapes(system)
        outputs = shapes_of(model, variables, batch)
        assert outputs
        assert all(isinstance(key, str) for key in outputs)
        terms = shapes_of(model, variables, batch, train=False, method="loss")
        assert terms
        for term in terms.values():
            assert isinstance(term, Mean)
            assert term.total.shape == term.weight.shape == ()
            assert term.total.dtype == jnp.float32
        found = shapes_of(model, variables, system.batch(3), method="predict")
        assert jax.tree.leaves(found)
        for leaf in jax.tree.leaves(found):
            assert leaf.shape[0] == 3

    def test_every_parameter_has_a_gradient(self, system):
        model, batch, tree = shapes(system)
        variables = random_variables(tree)
        collections = {key: value for key, value in variables.items() if key != "params"}

        def loss(params, batch):
            rngs = {"sample": jax.random.key(0)}
            everything = {"params": params, **collections}
            terms, _ = model.apply(everything, batch, method="loss", rngs=rngs, mutable=list(collections))
            return sum(term.value() for term in terms.values())

        value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"], batch)
        assert np.isfinite(value)
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient))
        without = []
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            path_name = "/".join(str(key.key) for key in path)
            assert np.isfinite(leaf).all(), path_name
            known = bool(system.without_gradient) and re.search(system.without_gradient, path_name)
            if np.abs(leaf).max() <= 1e-6 * largest and not known:
                without.append(path_name)
        assert not without

    def test_saved_variables_come_back(self, system, tmp_path):
        variables = random_variables(shapes(system)[2])
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(variables, {"count": np.zeros(1)}, TrainingProgress(step=1))
        found = checkpoints.restore_variables(1)
        pairs = zip(
            jax.tree_util.tree_leaves_with_path(variables),
            jax.tree_util.tree_leaves_with_path(found),
            strict=True,
        )
        for (path, ours), (same, theirs) in pairs:
            assert path == same
            assert ours.dtype == theirs.dtype
            assert ours.tobytes() == np.asarray(theirs).tobytes(), path

    @pytest.mark.slow
    def test_the_step_and_predictions_lower_for_gpus_and_tpus(self, system):
        """No such device is needed to lower a program for it; `jax.export` says which operation cannot be."""
        model, batch, variables = shapes(system)
        batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
        key = jax.eval_shape(lambda: jax.random.key(0))
        rule = optax.sgd(0.01, momentum=0.9)
        state = jax.eval_shape(lambda v: TrainState.create(v, rule), variables)
        sharded = jax.shard_map(
            train_step(model, rule, lambda count: 0.01),
            mesh=jax.make_mesh(
                (1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
            ),
            in_specs=(P(), P("data"), P()),
            out_specs=P(),
            check_vma=False,
        )

        def predict(variables, batch, key):
            return model.apply(variables, batch, method="predict", rngs={"sample": key})

        for program, first in ((sharded, state), (predict, variables)):
            exported = jax.export.export(jax.jit(program), platforms=("cuda", "tpu"))(first, batch, key)
            assert exported.platforms == ("cuda", "tpu")
            assert exported.nr_devices == 1

    @pytest.mark.slow
    def test_eight_devices_take_the_step_of_one(self, system, monkeypatch):
        """By losses, momenta (after one step they are the update, unrounded), and running statistics.

        In float64, and of images whose division by 255 is exact: batch norms of few values and maxima that
        are nearly equal enlarge what float32 rounds in another order, in a deep network to some percent.
        The poses of a sampler stay float32, which leaves differences of 1e-6.
        """
        model, _, tree = shapes(system)
        batch, rule = system.batch(16), optax.sgd(0.01, momentum=0.9)
        batch = batch.replace(image=np.where(batch.image > 127, 255, 0).astype(np.uint8))
        monkeypatch.setattr(step, "_cast", lambda params, precision: params)
        results = []
        with jax.enable_x64(True):
            variables = jax.tree.map(
                lambda x: np.float64(x) if x.dtype == np.float32 else x, random_variables(tree)
            )
            for devices in (1, 8):
                used = jax.devices()[:devices]
                run = data_parallel(train_step(model, rule, lambda count: 0.01), used, donate_argnums=())
                state = replicate(TrainState.create(variables, rule), used)
                results.append(run(state, shard(batch, devices), jax.random.key(1)))
        (one, told), (eight, told_too) = results
        assert bool(told.finite)
        np.testing.assert_allclose(told_too.loss, told.loss, rtol=1e-6)
        learned, same = ((state.opt_state, state.collections) for state in (eight, one))
        largest = max(np.linalg.norm(leaf) for leaf in jax.tree.leaves(one.opt_state))
        pairs = zip(jax.tree_util.tree_leaves_with_path(learned), jax.tree.leaves(same), strict=True)
        for (path, ours), theirs in pairs:
            allowed = 1e-5 * max(np.linalg.norm(theirs), 1e-3 * largest)
            assert np.linalg.norm(np.asarray(ours) - theirs) <= allowed, path
        for path, leaf in jax.tree_util.tree_leaves_with_path(eight):
            shards = {np.asarray(part.data).tobytes() for part in leaf.addressable_shards}
            assert len(leaf.addressable_shards) == 8
            assert len(shards) == 1, path
        # Such programs take much memory, and no other test asks for them.
        jax.clear_caches()
