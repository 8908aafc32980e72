"""Our training step as a case's side: the trainer's own, on one device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from vision_jax.benchmarks.case import Side
from vision_jax.training.experiment import Batch, TrainConfig
from vision_jax.training.optimizers import learning_rate, optimizer
from vision_jax.training.parallel import data_parallel, local_devices, replicate, shard
from vision_jax.training.state import TrainState, Variables
from vision_jax.training.step import train_step

# Small steps: the same batch is trained on repeatedly, and its loss must not change much.
CONFIG = TrainConfig(learning_rate=1e-4, warmup_steps=0, schedule="constant")
_NOTHING: Mapping[str, str] = {}


def training(
    model: nn.Module, variables: Variables, batch: Batch, counted: Mapping[str, str] = _NOTHING
) -> Side:
    """Steps of SGD with momentum, weight decay and clipping, one a run.

    Args:
        model: with `loss`.
        variables: to begin with.
        batch: of every step.
        counted: what to count: names of loss terms whose weights they are.
    """
    rule, devices = optimizer(CONFIG), local_devices(1)
    step = data_parallel(train_step(model, rule, learning_rate(CONFIG)), devices)
    state = replicate(TrainState.create(variables, rule), devices)
    key = jax.random.key(1)

    def run() -> Any:
        nonlocal state
        state, metrics = step(state, shard(batch, 1), key)
        return jax.block_until_ready(metrics)

    def count(outcome: Any) -> dict[str, int]:

        @jax.jit
        def weights(variables: Variables, batch: Batch) -> Any:
            """Weights of the counted loss terms: scalars."""
            rngs = {"sample": jax.random.fold_in(key, 0)}
            mutable = [name for name in variables if name != "params"]
            terms, _ = model.apply(variables, batch, method="loss", rngs=rngs, mutable=mutable)
            return {what: terms[term].weight for what, term in counted.items()}

        return {what: int(weight) for what, weight in weights(state.variables, batch).items()}

    return Side(run, count) if counted else Side(run)
