"""What all parts of the training loop share, and a run's evaluations, during training and at its end."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import flax.linen as nn
import jax
import numpy as np

from vision_jax.training.cache import CachedFeatures, FeatureData
from vision_jax.training.checkpoints import TrainingProgress
from vision_jax.training.console import Console
from vision_jax.training.distributed import Agreement, is_first
from vision_jax.training.experiment import Data, Experiment
from vision_jax.training.files import storage_errors
from vision_jax.training.metrics import MetricsFile, Row, TensorBoard
from vision_jax.training.parallel import Device
from vision_jax.training.predict import EvaluationLoop, evaluation_batch_size
from vision_jax.training.run_folder import RunFolder
from vision_jax.training.state import Variables
from vision_jax.training.stopping import Stopped, StopRequest
from vision_jax.types import Report

logger = logging.getLogger("vision_jax")


@dataclass
class RunContext:
    """What all parts of the training loop need; `progress`, the evaluation loops and the report change.

    Attributes:
        devices: of all processes.
        profile: whether this process traces some steps.
        began: `time.perf_counter()` at the start of the process's work.
        open_things: closed at the end of the run.
        features: of the last `Cache` stage; None before it.
        agreement: on stopping, between several processes; None for one process.
        evaluation_loops: by the evaluation's name, compiled when first used.
        report: of the last "default" evaluation of this process.
    """

    experiment: Experiment
    folder: RunFolder
    devices: list[Device]
    data: Data
    model: nn.Module
    console: Console
    stop: StopRequest
    metrics: MetricsFile
    tensorboard: TensorBoard
    profile: bool
    progress: TrainingProgress
    began: float
    open_things: ExitStack
    agreement: Agreement | None
    features: CachedFeatures | None = None
    evaluation_loops: dict[str, EvaluationLoop] = field(default_factory=dict)
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

    @property
    def stage_data(self) -> Data:
        """The data of the current stage: with features after a `Cache`."""
        return self.data if self.features is None else FeatureData(self.data, self.features)

    def evaluation_data(self, model: nn.Module) -> Data:
        """The data for evaluating a module: with features where its frozen method computes the same."""
        fits = self.features is not None and self.features.fits(model)
        return self.stage_data if fits else self.data

    def key(self, stage: int) -> jax.Array:
        """The root key of a stage."""
        return jax.random.fold_in(jax.random.key(self.experiment.seed), stage)

    def stop_signal(self) -> int | None:
        """The signal that asked any of the processes to stop, None for none; the same in all of them."""
        if self.agreement is None:
            return self.stop.received
        return self.agreement(self.stop.received or 0) or None

    def raise_stopped(self, signal: int) -> NoReturn:
        """Ends a run that was asked to stop and whose state is saved.

        Raises:
            Stopped: always.
        """
        step = self.progress.step
        where = f"the state of step {step} is saved" if step else "before the first step"
        logger.warning("stopped, %s; continue with --resume %s", where, self.folder.path)
        raise Stopped(signal)

    def raise_if_stopped(self) -> None:
        """Ends the run if it was asked to stop; called between the batches of an evaluation."""
        signal = self.stop_signal()
        if signal is not None:
            self.raise_stopped(signal)


def evaluate_saved(run: RunContext, variables: Variables) -> None:
    """Evaluates the state just saved, and adds the outcome to its checkpoint's record."""
    began = time.perf_counter()
    run.report = _evaluate(run, "default", variables)
    values = {f"val/{name}": float(value) for name, value in run.report.metrics.items()}
    row = {"step": float(run.progress.step), **values, "time/evaluation": time.perf_counter() - began}
    row["time/example"] = run.evaluation_loops["default"].example_seconds
    run.write_row(row)
    task = run.experiment.task
    metric = run.report.metrics.get(task.metric, float("nan"))
    if task.metric not in run.report.metrics:
        names = ", ".join(run.report.metrics)
        logger.warning("no best checkpoint: no metric %s among %s", task.metric, names)
    best = run.progress.best
    if np.isfinite(metric) and (best is None or (metric < best if task.minimize else metric > best)):
        run.progress = replace(run.progress, best=float(metric), best_step=run.progress.step)
    run.progress = replace(run.progress, evaluated=run.progress.step)
    with storage_errors(run.folder.checkpoints.folder):
        run.metrics.sync()
        run.folder.checkpoints.amend(run.progress)
    defined = [(name, value) for name, value in run.report.metrics.items() if not np.isnan(value)]
    shown = "  ".join(f"{name} {value:.4g}" for name, value in defined)
    logger.info("step %d  evaluation  %s", run.progress.step, shown)
    _plot_curves(run)


def evaluate_finished(run: RunContext, variables: Variables) -> Report:
    """Every evaluation of the last checkpoint; "default" is skipped if this process has just done it.

    Returns:
        The report of "default".
    """
    run.stop.waits = True
    if run.progress.evaluated != run.progress.step:
        evaluate_saved(run, variables)
    elif run.report is None:
        run.report = _evaluate(run, "default", variables)
    assert run.report is not None
    results = {"default": dict(run.report.metrics)}
    tables = dict(run.report.tables)
    for name in run.experiment.all_evaluations():
        if name == "default":
            continue
        report = _evaluate(run, name, variables)
        results[name] = dict(report.metrics)
        row = {f"val/{name}/{metric}": float(value) for metric, value in report.metrics.items()}
        row[f"time/example/{name}"] = run.evaluation_loops[name].example_seconds
        run.write_row({"step": float(run.progress.step), **row})
    run.folder.write_json("results.json", results)
    _plot_curves(run)
    for text in tables.values():
        logger.info("\n%s", text.rstrip())
    logger.info("done: %s", run.folder.path)
    return run.report


def _evaluate(run: RunContext, name: str, variables: Variables) -> Report:
    """One evaluation; writes its tables and figures."""
    experiment, evaluation = run.experiment, run.experiment.all_evaluations()[name]
    if name not in run.evaluation_loops:
        run.evaluation_loops[name] = EvaluationLoop(
            run.model, evaluation, experiment.task, run.devices, experiment.seed, run.raise_if_stopped
        )
    batch_size = evaluation_batch_size(run.experiment, len(run.devices))
    report, picture = run.evaluation_loops[name](
        variables, run.evaluation_data(evaluation.model(run.model)), batch_size
    )
    below = "." if name == "default" else f"evaluations/{name}"
    run.folder.write_report(report, below)
    if picture is not None:
        run.folder.write_picture(f"{below}/predictions.png", picture)
    return report


def _plot_curves(run: RunContext) -> None:
    """Writes curves.png, where the task plots curves."""
    picture = run.experiment.task.plot_curves(run.metrics.rows) if is_first() else None
    if picture is not None:
        run.folder.write_picture("curves.png", picture)
