"""What is measured at each step without delaying the next: losses, speed, traces; the check for NaN."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vision_jax.training.console import Console
from vision_jax.training.experiment import Batch, Player
from vision_jax.training.files import storage_errors
from vision_jax.training.metrics import Meter, Row
from vision_jax.training.stages import Stage, column, players, step_count, steps_taken, turns
from vision_jax.training.step import StepMetrics
from vision_jax.types import UserError

logger = logging.getLogger("vision_jax")

PROFILED_STEPS = (10, 15)


@dataclass
class _Record:
    """What is measured between two rows of a player.

    Attributes:
        player: whose.
        meter: means over the player's steps since its last row.
        since: `time.perf_counter()` at that row.
        steps: of all players since then.
        waiting: seconds since then in which no batch was ready.
        compiled: whether the player's first step in this process is done.
    """

    player: Player
    meter: Meter
    since: float = field(default_factory=time.perf_counter)
    steps: int = 0
    waiting: float = 0.0
    compiled: bool = False

    def restart_clock(self) -> None:
        """Excludes the time until now from the speed."""
        self.since, self.steps, self.waiting = time.perf_counter(), 0, 0.0


class Watch:
    """Reads the metrics of each step once the next has started, and writes a row every `log_every` steps.

    Where players take turns, each has its own rows, every `log_every` of its own steps.

    Args:
        stage: of gradient training.
        before: steps taken in earlier stages.
        sums: of each player's steps since its last row, by its name, as the checkpoint holds them.
        console: prints them.
        write_row: takes each row of metrics.csv.
        folder: the run folder, for a batch whose loss is not finite.
        rank: this process's number; its part of such a batch carries it.
        began: `time.perf_counter()` at the start of the process's work.
    """

    def __init__(
        self,
        stage: Stage,
        before: int,
        sums: Mapping[str, Mapping[str, float]],
        console: Console,
        write_row: Callable[[Row], None],
        folder: Path,
        rank: int,
        began: float,
    ) -> None:
        self._stage = stage
        self._steps = step_count(stage)
        self._records = [_Record(player, Meter(sums.get(player.name))) for player in players(stage)]
        self._turns = turns(stage)
        self._before = before
        self._console = console
        self._write_row = write_row
        self._folder = folder
        self._suffix = f".{rank}.npz" if rank else ".npz"
        self._began = began
        self._pending: tuple[int, Batch, StepMetrics] | None = None

    def sums(self) -> dict[str, dict[str, float]]:
        """The sums of each player's steps since its last row, by its name."""
        return {record.player.name: record.meter.state() for record in self._records}

    def restart_clock(self) -> None:
        """Excludes the time until now (compilation, an evaluation) from the speed."""
        for record in self._records:
            record.restart_clock()

    def waited(self, seconds: float) -> None:
        """Counts time in which no batch was ready."""
        for record in self._records:
            record.waiting += seconds

    def started(self, done: int, batch: Batch, outcome: StepMetrics) -> None:
        """Takes a step's metrics, which may not be computed yet, and reads those of the step before.

        Args:
            done: steps of the stage, this one included.
            batch: the step's.
            outcome: the step's metrics.

        Raises:
            UserError: the loss or the gradient of the step before was not finite.
        """
        earlier, self._pending = self._pending, (done, batch, outcome)
        if earlier is not None:
            self._read(*earlier)

    def catch_up(self) -> None:
        """Reads the last step's metrics too, waiting for it.

        Raises:
            UserError: its loss or its gradient was not finite.
        """
        if self._pending is not None:
            earlier, self._pending = self._pending, None
            self._read(*earlier)

    def _read(self, done: int, batch: Batch, outcome: StepMetrics) -> None:
        """Waits for a step's metrics, adds them to the means, and writes a row where one is due."""
        acting = self._turns[(done - 1) % len(self._turns)]
        record, own = self._records[acting], steps_taken(self._stage, done)[acting]
        config, prefix = record.player.train, column(record.player)
        got = jax.device_get(outcome)
        loss = {f"{prefix}loss": float(got.loss)}
        values = loss | {f"{prefix}{name}": float(value) for name, value in got.terms.items()} | loss
        values[f"{prefix}grad_norm"] = float(got.grad_norm)
        if not got.finite:
            raise self._not_finite(self._before + done, values, batch)
        record.meter.add(values)
        for each in self._records:
            each.steps += 1
        now = time.perf_counter()
        seconds = max(now - record.since, 1e-9)
        times = {
            "time/examples_per_second": record.steps * config.batch_size / seconds,
            "time/waiting": min(record.waiting / seconds, 1.0),
            "time/steps": seconds,
            "time/elapsed": now - self._began,
        }
        self._console.step(done, self._losses(), times)
        if own % config.log_every == 0 or own == config.steps:
            means = record.meter.means()
            means[f"{prefix}learning_rate"] = float(got.learning_rate)
            self._write_row({"step": float(self._before + done), **means, **times})
            seconds_left = (self._steps - done) * seconds / record.steps
            self._console.row(done, self._steps, {**means, **times}, seconds_left)
            record.meter.clear()
            record.restart_clock()
        if not record.compiled:
            if not any(each.compiled for each in self._records):
                logger.info("the first step was done %.1f s after the start", now - self._began)
            record.compiled = True
            self.restart_clock()

    def _losses(self) -> dict[str, float]:
        """Each player's mean loss since its last row: {"loss": ...} or {"NAME/loss": ...}."""
        found = {}
        for record in self._records:
            means, name = record.meter.means(), f"{column(record.player)}loss"
            if name in means:
                found[name.removeprefix("train/")] = means[name]
        return found

    def _not_finite(self, step: int, values: Row, batch: Batch) -> UserError:
        """Saves the batch of a loss or gradient that is not finite; the state is unchanged by it."""
        path = self._folder / f"nonfinite_batch_step_{step}{self._suffix}"
        leaves = jax.tree_util.tree_leaves_with_path(batch)
        names = ["/".join(str(getattr(k, "name", getattr(k, "key", k))) for k in keys) for keys, _ in leaves]
        arrays: dict[str, Any] = {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}
        with storage_errors(path), path.open("wb") as file:
            np.savez_compressed(file, **arrays)
        terms = ", ".join(f"{name.removeprefix('train/')} = {value:.6g}" for name, value in values.items())
        return UserError(
            f"the loss or its gradient is not finite at step {step}: {terms}. The batch is in {path}. "
            "Lower train.learning_rate, lengthen train.warmup_steps, or look at the batch"
        )


class Profiler:
    """Traces steps 10 to 15 of this process, when everything is compiled.

    Args:
        folder: of the trace.
        wanted: whether to trace at all.
    """

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._folder = folder
        self._wanted = wanted
        self._running = False

    def before_step(self, taken: int) -> None:
        """Called with the number of steps that this process has taken."""
        if self._wanted and taken == PROFILED_STEPS[0]:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after_step(self, taken: int, outcome: StepMetrics) -> None:
        """Called with that number and the metrics of the last step."""
        if self._running and taken == PROFILED_STEPS[1]:
            jax.block_until_ready(outcome)
            self.close()

    def close(self) -> None:
        """Ends a trace that is running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            logger.info("the trace is in %s; look at it with `tensorboard --logdir`", self._folder)
