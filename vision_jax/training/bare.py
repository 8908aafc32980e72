"""Training without a run folder: for a film, a notebook, or a network that another one needs first."""

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
    """Trains on one device, as a run's gradient stage would; nothing is judged, logged or saved.

    Args:
        model: with a `loss` method.
        config: of its fields, those that the step is made of, and how many steps.
        batches: training batches, endless.
        seed: of the first parameters and every draw.

    Yields:
        The variables to judge with before the first step and after each; the next step takes their memory,
        so that what shall outlive it must be copied.
    """
    key, used, first = jax.random.key(seed), local_devices(1), next(batches)
    state = replicate(configured_state(initial_variables(model, key, first), config), used)
    step = data_parallel(configured_step(model, config), used)
    yield state.judged
    for i in range(config.steps):
        state, _ = step(state, shard(next(batches) if i else first, 1), key)
        yield state.judged
