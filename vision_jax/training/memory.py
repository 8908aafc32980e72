"""What a training step costs according to the compiler: memory, before anything is trained, and operations.

A step holds the state (parameters, the optimizer's state, an average), gradients, the batch, and the
activations of each example; the first two do not grow with the batch, the others grow in proportion:

    bytes of a device = fixed + inputs x examples of the device + work x examples of its microbatch

All that a batch holds is a part of `inputs`; of buckets the plan is of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import numpy as np

from vision_jax.training.experiment import Batch, Data, Experiment
from vision_jax.training.parallel import data_parallel, local_devices, shard
from vision_jax.training.stages import initial_states, methods, players, stage_steps
from vision_jax.training.state import TrainState, initialization
from vision_jax.types import UserError

# Examples among which one of the longest bucket is.
_LOOKED_AT = 64


@dataclass(frozen=True)
class StepMemory:
    """What a training step needs on one device.

    Attributes:
        examples: number of examples on the device.
        state: bytes of parameters, statistics, the optimizers' states and the averages, of all players.
        inputs: bytes of the device's shard of the batch.
        work: bytes of all temporary buffers, as the compiler planned them.
    """

    examples: int
    state: int
    inputs: int
    work: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.state + self.inputs + self.work


class KnownCost:
    """A step that knows its cost: compiled once for each shape of batch, as without this class.

    Args:
        step: of `data_parallel`.

    Attributes:
        cost: of the first program on one device: `flops`, floating-point operations as XLA counts them, and
            `bytes` of its arguments and temporary buffers; each left out where the device does not report it.
            Empty before the first call, and in a run of several processes: pmap joins their shards of a
            batch only in its own call.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self.cost: dict[str, float] = {}
        self._step: Any = step
        self._programs: dict[tuple[Any, ...], Any] = {}

    def __call__(self, state: TrainState, batch: Batch, key: Any) -> Any:
        if jax.process_count() > 1:
            return self._step(state, batch, key)
        kind = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch))
        if kind not in self._programs:
            self._programs[kind] = self._step.lower(state, batch, key).compile()
            self.cost = self.cost or _cost(self._programs[kind])
        return self._programs[kind](state, batch, key)


def _cost(program: Any) -> dict[str, float]:
    """`flops` and `bytes` of a compiled program, those that the device reports."""
    cost: dict[str, float] = {}
    analysis = program.cost_analysis() or {}
    if "flops" in analysis:
        cost["flops"] = float(analysis["flops"])
    plan = program.memory_analysis()
    if plan is not None:
        cost["bytes"] = float(plan.argument_size_in_bytes + plan.temp_size_in_bytes)
    return cost


def step_memory(experiment: Experiment, data: Data, examples: Sequence[int]) -> list[StepMemory]:
    """Compiles the step of an experiment's first gradient stage for one device; nothing is run.

    Where players alternate, the step is that of the player that needs most.

    Args:
        experiment: with the stage.
        data: its data, opened; the step is compiled for the shapes of their largest examples (batches in
            buckets have several shapes).
        examples: batch sizes of one device, each divisible by the stage's `accumulate`.

    Returns:
        The memory for each.

    Raises:
        UserError: no stage trains by gradient, or the device does not report memory.
    """
    stage = next((stage for stage in experiment.stages if players(stage)), None)
    if stage is None:
        raise UserError("no stage of the experiment trains by gradient, so there is no step to look at")
    model = experiment.model(data.spec)
    steps = [data_parallel(step, local_devices(1)) for step in stage_steps(stage, model)]
    initialize = initialization(model, methods(experiment.stages, model))
    key = jax.random.key(0)

    def begin(batch: Batch) -> list[TrainState]:
        return initial_states(stage, initialize(key, batch))

    largest = max(islice(data.train(1, experiment.seed, 0), _LOOKED_AT), key=_inputs)
    found = []
    for count in examples:
        batch = jax.tree.map(lambda x, count=count: np.repeat(x, count, axis=0), largest)
        states = jax.eval_shape(begin, jax.tree.map(np.asarray, batch))
        programs = [
            step.lower(s, shard(batch, 1), key).compile() for step, s in zip(steps, states, strict=True)
        ]
        plans = [program.memory_analysis() for program in programs]
        if None in plans:
            raise UserError(f"{jax.default_backend()} does not report how much memory a program needs")
        own = [(s.step, s.opt_state, s.averaged, s.numbers) for s in states]
        kept = _bytes((states[0].variables, own))
        found.append(StepMemory(count, kept, _inputs(batch), max(plan.temp_size_in_bytes for plan in plans)))
    return found


def _inputs(batch: Batch) -> int:
    """Bytes of a batch's arrays."""
    return sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch))


def _bytes(shapes: Any) -> int:
    """Bytes of the arrays that a tree of shapes stands for."""
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def per_example(found: Sequence[StepMemory]) -> tuple[float, float]:
    """Fits a line to the totals over the number of examples, by least squares.

    Args:
        found: for two batch sizes or more.

    Returns:
        (bytes of a batch of 0 examples, bytes of each).
    """
    slope, fixed = np.polyfit([m.examples for m in found], [m.total for m in found], 1)
    return float(fixed), float(slope)
