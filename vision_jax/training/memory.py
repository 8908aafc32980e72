"""How much memory a training step takes, before any is trained: what the compiler says of the program.

A step holds the state (parameters, the optimizer's sums, an average), the batch, and what the backward
pass keeps of each image; the first does not grow with the batch, the others grow in proportion:

    bytes of a device = state + inputs x images of the device + work x images of its microbatch

Masks are a part of `inputs`: as bitmaps objects x height x width bytes an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from vision_jax.training.experiment import Batch, Data, Experiment, Gradient
from vision_jax.training.optimizers import optimizer
from vision_jax.training.parallel import data_parallel, local_devices, shard
from vision_jax.training.state import TrainState
from vision_jax.training.step import configured_step
from vision_jax.types import UserError


@dataclass(frozen=True)
class StepMemory:
    """What a training step needs on one device.

    Attributes:
        images: of the device.
        state: bytes of parameters, statistics, the optimizer's state and the average.
        inputs: bytes of the device's share of the batch.
        work: bytes of all else that lives while the step runs, as the compiler planned it.
    """

    images: int
    state: int
    inputs: int
    work: int

    @property
    def total(self) -> int:
        return self.state + self.inputs + self.work


def step_memory(experiment: Experiment, data: Data, images: Sequence[int]) -> list[StepMemory]:
    """Compiles the step of an experiment's first gradient stage for one device; nothing is run.

    Args:
        experiment: whose step.
        data: its data, opened: batches of them tell the shapes.
        images: batch sizes of one device, each divisible by the stage's `accumulate`.

    Returns:
        The memory for each.

    Raises:
        UserError: no stage trains by gradient, or the device does not tell.
    """
    config = next((stage.train for stage in experiment.stages if isinstance(stage, Gradient)), None)
    if config is None:
        raise UserError("no stage of the experiment trains by gradient, so there is no step to look at")
    model = experiment.model(data.classes)
    rule = optimizer(config)
    step = data_parallel(configured_step(model, config), local_devices(1))
    key = jax.random.key(0)

    def begun(share: Batch) -> TrainState:
        variables = dict(model.init({"params": key, "sample": key}, share, method="loss"))
        return TrainState.create(variables, rule, ema=config.ema > 0)

    found = []
    for count in images:
        batch = next(iter(data.train(count, experiment.seed, 0)))
        state = jax.eval_shape(begun, jax.tree.map(np.asarray, batch))
        plan = step.lower(state, shard(batch, 1), key).compile().memory_analysis()
        if plan is None:
            raise UserError(f"{jax.default_backend()} does not tell how much memory a program needs")
        inputs = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch))
        kept = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        found.append(StepMemory(count, kept, inputs, plan.temp_size_in_bytes))
    return found


def per_image(found: Sequence[StepMemory]) -> tuple[float, float]:
    """The line through some totals, by least squares.

    Args:
        found: for two batch sizes or more.

    Returns:
        Bytes whatever the batch, and bytes for each image of it.
    """
    slope, fixed = np.polyfit([m.images for m in found], [m.total for m in found], 1)
    return float(fixed), float(slope)
