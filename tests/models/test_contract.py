"""What every system owes the trainer: static shapes, a gradient for every parameter, programs anywhere."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from tests.systems import SYSTEMS
from vision_jax.training.checkpoints import Checkpoints, Progress
from vision_jax.training.state import TrainState
from vision_jax.training.step import train_step
from vision_jax.types import Mean

QUICK = [name for name, system in SYSTEMS.items() if not system.slow]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name, system in SYSTEMS.items() if system.slow]


@cache
def shapes(name: str) -> tuple[Any, Any, Any]:
    """A system's model, a batch of two for it, and the shapes of its variables."""
    model, batch = SYSTEMS[name].model(), SYSTEMS[name].batch(2)
    keys = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    return model, batch, jax.eval_shape(lambda b: dict(model.init(keys, b, method="loss")), batch)


def drawn(tree: Any) -> Any:
    """Variables of given shapes: parameters at random, so that nothing begins at zero; statistics of noise.

    Numpy draws them, so that nothing is compiled for it.
    """
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> Any:
        names = [str(key.key) for key in path]
        if names[0] != "params":
            return np.full(leaf.shape, "var" in names[-1], leaf.dtype)
        fan_in = max(1, math.prod(leaf.shape[:-1]))
        scale = 1 / math.sqrt(fan_in) if len(leaf.shape) > 1 else 0.3
        mean = 1.0 if names[-1] == "scale" else 0.0
        return rng.normal(mean, scale, leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, tree)


def exempt(name: str, place: str) -> bool:
    """Whether a system's parameter is known to have no gradient."""
    pattern = SYSTEMS[name].without_gradient
    return bool(pattern) and re.search(pattern, place) is not None


def shapes_of(model: Any, variables: Any, batch: Any, **options: Any) -> Any:
    """The shapes that a method of the model returns."""

    def call(variables: Any, batch: Any) -> Any:
        return model.apply(variables, batch, rngs={"sample": jax.random.key(0)}, **options)

    return jax.eval_shape(call, variables, batch)


@pytest.mark.parametrize("name", SYSTEMS)
def test_outputs_losses_and_predictions_have_static_shapes(name):
    model, batch, variables = shapes(name)
    outputs = shapes_of(model, variables, batch)
    assert outputs
    assert all(isinstance(key, str) for key in outputs)
    terms = shapes_of(model, variables, batch, train=False, method="loss")
    assert terms
    for term in terms.values():
        assert isinstance(term, Mean)
        assert term.total.shape == term.weight.shape == ()
        assert term.total.dtype == jnp.float32
    for images in (2, 3):
        found = shapes_of(model, variables, SYSTEMS[name].batch(images), method="predict")
        assert jax.tree.leaves(found)
        for leaf in jax.tree.leaves(found):
            assert leaf.shape[0] == images


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_every_parameter_has_a_gradient(name):
    model, batch, tree = shapes(name)
    variables = drawn(tree)
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
        place = "/".join(str(key.key) for key in path)
        assert np.isfinite(leaf).all(), place
        if np.abs(leaf).max() <= 1e-6 * largest and not exempt(name, place):
            without.append(place)
    assert not without


@pytest.mark.parametrize("name", SYSTEMS)
def test_saved_variables_come_back(name, tmp_path):
    variables = drawn(shapes(name)[2])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(variables, {"count": np.zeros(1)}, Progress(step=1))
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
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_step_and_predictions_lower_for_gpus_and_tpus(name):
    """No such device is needed to lower a program for it; `jax.export` says which operation cannot be."""
    model, batch, variables = shapes(name)
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), batch)
    key = jax.eval_shape(lambda: jax.random.key(0))
    rule = optax.sgd(0.01, momentum=0.9)
    state = jax.eval_shape(lambda v: TrainState.create(v, rule), variables)
    step = jax.shard_map(
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

    for program, first in ((step, state), (predict, variables)):
        exported = jax.export.export(jax.jit(program), platforms=("cuda", "tpu"))(first, batch, key)
        assert exported.platforms == ("cuda", "tpu")
        assert exported.nr_devices == 1
