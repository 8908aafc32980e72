"""A run as every part of its story sees it, and its judgement: one evaluation, and those at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import flax.linen as nn
import jax
import numpy as np

from vision_jax.training.checkpoints import TrainingProgress
from vision_jax.training.console import Console
from vision_jax.training.distributed import Agreement, is_first
from vision_jax.training.experiment import Data, Experiment, Picture
from vision_jax.training.files import storage_errors
from vision_jax.training.metrics import MetricsFile, Row, TensorBoard
from vision_jax.training.parallel import Device
from vision_jax.training.predict import Judge, evaluation_batch_size, named_models
from vision_jax.training.run_folder import RunFolder
from vision_jax.training.state import Variables
from vision_jax.training.stopping import Stopped, StopRequest
from vision_jax.types import Report

logger = logging.getLogger("vision_jax")


@dataclass
class Run:
    """What every part of the story needs; `progress` is all that changes."""

    experiment: Experiment
    folder: RunFolder
    devices: list[Device]
    data: Data
    model: nn.Module
    console: Console
    stop: StopRequest
    metrics: MetricsFile
    tensorboard: TensorBoard
    draw_curves: Callable[[list[dict[str, float]]], Picture] | None
    profile: bool
    progress: TrainingProgress
    began: float
    open_things: ExitStack
    agreement: Agreement | None
    judges: dict[str, Judge] = field(default_factory=dict)
    report: Report | None = None

    def write_row(self, row: Row) -> None:
        """Adds a row to metrics.csv and TensorBoard."""
        with storage_errors(self.folder.path):
            self.metrics.append(row)
            if is_first():
                self.tensorboard.write(row)
        self.progress = replace(self.progress, rows=len(self.metrics.rows))

    def save(self, variables: Variables, rest: Any) -> None:
        """Saves a checkpoint of `progress`."""
        with storage_errors(self.folder.metrics):
            self.metrics.sync()
        self.folder.checkpoints.save(variables, rest, self.progress)

    def key(self, stage: int) -> jax.Array:
        """The root key of a stage."""
        return jax.random.fold_in(jax.random.key(self.experiment.seed), stage)

    def asked(self) -> int | None:
        """The signal by which any process was asked to stop; the same answer in all of them."""
        if self.agreement is None:
            return self.stop.received
        return self.agreement(self.stop.received or 0) or None

    def leave(self, signal: int) -> NoReturn:
        """Ends a run that was asked to stop and whose state is saved."""
        step = self.progress.step
        where = f"the state of step {step} is saved" if step else "before the first step"
        logger.warning("stopped, %s; continue with --resume %s", where, self.folder.path)
        raise Stopped(signal)

    def leave_if_asked(self) -> None:
        """The same, between the batches of an evaluation."""
        signal = self.asked()
        if signal is not None:
            self.leave(signal)


def judge_saved(run: Run, variables: Variables) -> None:
    """Judges the state just saved, and adds the outcome to its checkpoint's record."""
    began = time.perf_counter()
    run.report = _judge(run, "default", run.model, variables)
    values = {f"val/{name}": float(value) for name, value in run.report.metrics.items()}
    row = {"step": float(run.progress.step), **values, "time/evaluation": time.perf_counter() - began}
    row["time/image"] = run.judges["default"].image_seconds
    run.write_row(row)
    metric = run.report.metrics.get(run.experiment.task.metric, float("nan"))
    if run.experiment.task.metric not in run.report.metrics:
        names = ", ".join(run.report.metrics)
        logger.warning("no best checkpoint: no metric %s among %s", run.experiment.task.metric, names)
    best = run.progress.best
    if np.isfinite(metric) and (best is None or metric > best):
        run.progress = replace(run.progress, best=float(metric), best_step=run.progress.step)
    run.progress = replace(run.progress, evaluated=run.progress.step)
    with storage_errors(run.folder.checkpoints.folder):
        run.metrics.sync()
        run.folder.checkpoints.amend(run.progress)
    defined = [(name, value) for name, value in run.report.metrics.items() if not np.isnan(value)]
    shown = "  ".join(f"{name} {value:.4g}" for name, value in defined)
    logger.info("step %d  evaluation  %s", run.progress.step, shown)
    _draw_curves(run)


def judge_finished(run: Run, variables: Variables) -> Report:
    """Every evaluation of the last checkpoint: "default" once more only if this process has not done it."""
    run.stop.waits = True
    if run.progress.evaluated != run.progress.step:
        judge_saved(run, variables)
    elif run.report is None:
        run.report = _judge(run, "default", run.model, variables)
    assert run.report is not None
    results = {"default": dict(run.report.metrics)}
    tables = dict(run.report.tables)
    for name, model in named_models(run.experiment, run.model).items():
        if name == "default":
            continue
        report = _judge(run, name, model, variables)
        results[name] = dict(report.metrics)
        row = {f"val/{name}/{metric}": float(value) for metric, value in report.metrics.items()}
        row[f"time/image/{name}"] = run.judges[name].image_seconds
        run.write_row({"step": float(run.progress.step), **row})
    run.folder.write_json("results.json", results)
    _draw_curves(run)
    for text in tables.values():
        logger.info("\n%s", text.rstrip())
    logger.info("done: %s", run.folder.path)
    return run.report


def _judge(run: Run, name: str, model: nn.Module, variables: Variables) -> Report:
    """One evaluation, its tables and figures written."""
    if name not in run.judges:
        run.judges[name] = Judge(
            model, run.experiment.task, run.devices, run.experiment.seed, run.leave_if_asked
        )
    batch_size = evaluation_batch_size(run.experiment, len(run.devices))
    report, picture = run.judges[name](variables, run.data, batch_size)
    below = "." if name == "default" else f"evaluations/{name}"
    run.folder.write_report(report, below)
    run.folder.write_picture(f"{below}/predictions.png", picture)
    return report


def _draw_curves(run: Run) -> None:
    if run.draw_curves is not None and is_first():
        run.folder.write_picture("curves.png", run.draw_curves(run.metrics.rows))
