"""Training without a run folder: for an animation, a notebook, or a network that another one needs first."""

from __future__ import annotations

from collections.abc import Iterator

import flax.linen as nn
import jax

from vision_jax.training.experiment import Batch, TrainConfig
from vision_jax.training.parallel import data_parallel, local_devices, replicate, shard
from vision_jax.training.state import Variables, initial_variables
from vision_jax.training.step import configured_state, configured_step


def bare_training(
    model: nn.Module, config: TrainConfig, batches: Iterator[Batch], seed: int
) -> Iterator[Variables]:
    """Trains on one device, as a run's gradient stage would; nothing is evaluated, logged or saved.

    Args:
        model: with a `loss` method.
        config: the optimizer's settings and the number of steps; those of evaluation, checkpoints and the log
            are not read.
        batches: training batches, endless.
        seed: of the initial parameters and all random numbers.

    Yields:
        The variables to evaluate with, before the first step and after each. The next step reuses their
        memory: copy what is needed longer.
    """
    key, used, first = jax.random.key(seed), local_devices(1), next(batches)
    state = replicate(configured_state(initial_variables(model, key, first), config), used)
    step = data_parallel(configured_step(model, config), used)
    yield state.evaluation_variables
    for i in range(config.steps):
        state, _ = step(state, shard(next(batches) if i else first, 1), key)
        yield state.evaluation_variables
