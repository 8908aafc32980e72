"""The story of a run, top to bottom: data, model, state, steps, evaluations, checkpoints.

Three rules keep a killed run repeatable to the bit. The data iterator's position is saved only when
every batch drawn from it has been trained on. A checkpoint records how many rows metrics.csv had, and
a continued run cuts the file back to them. A checkpoint is saved before its evaluation, whose outcome
is added to its record, so an evaluation that fails or is killed is simply done again.

The host never waits for a step it has just started: it reads each step's metrics after starting the
next, and fetches data in between.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vision_jax.training.checkpoints import Progress
from vision_jax.training.compilation import keep_compiled_programs
from vision_jax.training.experiment import Batch, Data, Experiment, Fit, Gradient, Picture
from vision_jax.training.files import storage_errors
from vision_jax.training.metrics import MetricsFile, Row, TensorBoard
from vision_jax.training.optimizers import learning_rate, optimizer
from vision_jax.training.parallel import (
    Device,
    check_batch_size,
    data_parallel,
    local_devices,
    replicate,
    shard,
)
from vision_jax.training.predict import Judge, evaluation_batch_size, named_models
from vision_jax.training.progress import Console
from vision_jax.training.run_folder import RunFolder, describe, machine, now
from vision_jax.training.state import TrainState, Variables, check_fits, initial_variables
from vision_jax.training.step import train_step
from vision_jax.training.stopping import Stopped, StopRequest
from vision_jax.training.watch import Profiler, Watch
from vision_jax.types import Report, UserError

logger = logging.getLogger("vision_jax")


def fit(
    experiment: Experiment,
    run_folder: Path | str,
    *,
    resume: bool = False,
    overfit: int = 0,
    profile: bool = False,
    devices: int | None = None,
    file: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    draw_curves: Callable[[list[dict[str, float]]], Picture] | None = None,
) -> Report:
    """Trains and judges an experiment; all that happens is in the run folder.

    Args:
        experiment: what to train.
        run_folder: a new folder, or with `resume` one that a run left.
        resume: continue from the newest sound checkpoint (from the start if there is none yet).
            The classes and `overfit` are then those the run began with.
        overfit: train and evaluate on the first so many training images only; 0 is the whole data.
        profile: trace the 10th to 15th step of this process into `run_folder/profile`.
        devices: how many local devices to use; all of them if None.
        file: the experiment's file, recorded and copied to `run_folder/experiment.py`.
        arguments: what the experiment's function was called with, JSON-able, recorded in experiment.json.
        draw_curves: rows of metrics.csv -> curves.png (`vision_jax.visualization.curves.draw_curves`).

    Returns:
        The report of the "default" evaluation at the end; metrics without the `val/` they have in
        metrics.csv.

    Raises:
        UserError: anything a person can mend (folder, disk, options, data, a non-finite loss).
        Stopped: (a `SystemExit`, code 143 or 130) after SIGTERM or SIGINT, once the state is saved.
    """
    began = time.perf_counter()
    keep_compiled_programs()
    used = local_devices(devices)
    for stage in experiment.stages:
        if isinstance(stage, Gradient):
            optimizer(stage.train)  # refuses impossible numbers before anything is opened
            check_batch_size(stage.train.batch_size, len(used))
    folder = RunFolder(run_folder)
    record = folder.read_record() if resume else None
    if record is not None and record["seed"] != experiment.seed:
        raise UserError(f"{folder.path} began with seed {record['seed']}, not {experiment.seed}")
    if record is None:
        record = describe(file, arguments, experiment.seed, overfit, used)
        folder.begin(record, file)
    with ExitStack() as open_things:
        with storage_errors(folder.log):
            console = open_things.enter_context(Console(folder.log))
        stop = open_things.enter_context(StopRequest())
        if resume:
            _note_resumption(record, used)
        data = experiment.task.open(tuple(record["classes"]) if record["classes"] else None)
        record = {**record, "classes": list(data.classes)}
        folder.write_record(record)
        if record["overfit"]:
            data = data.overfit(record["overfit"])

        progress = folder.checkpoints.newest() if resume else None
        folder.checkpoints.discard_after(progress.step if progress else -1)
        progress = progress or Progress()
        with storage_errors(folder.metrics):
            metrics = MetricsFile(folder.metrics, keep=progress.rows)
        tensorboard = TensorBoard(folder.tensorboard, purge_step=progress.step + 1 if resume else None)
        open_things.callback(tensorboard.close)
        run = _Run(
            experiment=experiment,
            folder=folder,
            devices=used,
            data=data,
            model=experiment.model(data.classes),
            console=console,
            stop=stop,
            metrics=metrics,
            tensorboard=tensorboard,
            draw_curves=draw_curves,
            profile=profile,
            progress=progress,
            began=began,
            open_things=open_things,
        )
        logger.info("%s", _opening_words(run, resume))
        return _run_stages(run)


@dataclass
class _Run:
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
    progress: Progress
    began: float
    open_things: ExitStack
    judges: dict[str, Judge] = field(default_factory=dict)
    report: Report | None = None

    def write_row(self, row: Row) -> None:
        """Adds a row to metrics.csv and TensorBoard."""
        with storage_errors(self.folder.path):
            self.metrics.append(row)
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

    def leave_if_asked(self) -> None:
        """Ends a run that was asked to stop and whose state is saved."""
        if self.stop.received is not None:
            step = self.progress.step
            where = f"the state of step {step} is saved" if step else "before the first step"
            logger.warning("stopped, %s; continue with --resume %s", where, self.folder.path)
            raise Stopped(self.stop.received)


def _run_stages(run: _Run) -> Report:
    """Runs the stages that are left, then every evaluation of the experiment."""
    stages = run.experiment.stages
    variables = None
    if run.progress.step:
        variables = run.folder.checkpoints.restore_variables(run.progress.step)
    while run.progress.stage < len(stages):
        index = run.progress.stage
        stage = stages[index]
        run.progress = replace(run.progress, stage_name=stage.name)
        if isinstance(stage, Gradient):
            variables = _train(run, stage, index, variables)
        else:
            variables = _fit_without_gradients(run, stage, index, variables)
    if variables is None:
        raise UserError("the experiment has no stages: there is nothing to train")
    return _final_evaluations(run, replicate(variables, run.devices))


def _train(run: _Run, stage: Gradient, index: int, variables: Variables | None) -> Variables:
    """A gradient stage, from its first step or from where the checkpoint left it."""
    config, resumed = stage.train, run.progress
    rule = optimizer(config)
    last_stage = index == len(run.experiment.stages) - 1
    iterator, batches = None, iter(())
    if resumed.stage_step < config.steps:
        iterator = run.data.train(config.batch_size, run.experiment.seed + index, config.workers)
        if resumed.iterator is not None:
            iterator.set_state(resumed.iterator)
        first = next(iterator)
        batches = chain([first], iterator)
        share = jax.tree.map(lambda x: x[0], shard(first, len(run.devices)))
        if variables is None:
            variables = _begin_model(run, index, first, share)
        elif index == 0:
            check_fits(run.model, variables, share, f"the checkpoint of step {resumed.step}")
    assert variables is not None  # no stage is complete at step 0, so there was a checkpoint
    state = TrainState.create(variables, rule)
    if resumed.stage_step:
        like = {"step": state.step, "opt_state": jax.eval_shape(rule.init, state.params)}
        restored = run.folder.checkpoints.restore_optimizer(resumed.step, like)
        state = replace(state, step=restored["step"], opt_state=restored["opt_state"])
    state = replicate(state, run.devices)
    step = data_parallel(train_step(run.model, rule, learning_rate(config)), run.devices)

    key = run.key(index)
    before = resumed.step - resumed.stage_step
    done, taken = resumed.stage_step, 0
    watch = Watch(config, before, resumed.sums, run.console, run.write_row, run.folder.path, run.began)
    profiler = run.open_things.enter_context(closing(Profiler(run.folder.profile, run.profile)))
    run.console.start_stage(stage.name, config.steps, done)
    run.stop.waits = True
    while True:
        at_end = done == config.steps
        evaluating = (at_end and last_stage) or _due(config.eval_every, done)
        stopping = run.stop.received is not None
        saving = at_end or evaluating or stopping or _due(config.checkpoint_every, done)
        if saving and taken:
            watch.catch_up()
            run.progress = replace(
                run.progress,
                step=before + done,
                stage_step=done,
                sums=watch.meter.state(),
                iterator=iterator.get_state() if iterator is not None else None,
            )
            run.save(state.variables, {"step": state.step, "opt_state": state.opt_state})
        if stopping:
            run.leave_if_asked()
        if evaluating and run.progress.evaluated != before + done:
            run.console.note("evaluating ...")
            _evaluate(run, state.variables)
            watch.restart_clock()
        if at_end:
            break
        profiler.before_step(taken)
        asked = time.perf_counter()
        batch = next(batches)
        watch.waited(time.perf_counter() - asked)
        state, outcome = step(state, shard(batch, len(run.devices)), key)
        done, taken = done + 1, taken + 1
        watch.started(done, batch, outcome)
        profiler.after_step(taken, outcome)
    profiler.close()
    close = getattr(iterator, "close", None)
    if close is not None:
        close()  # worker processes, where it has any
    run.console.end_stage()
    run.progress = replace(run.progress, stage=index + 1, stage_step=0, sums={}, iterator=None)
    return state.variables


def _fit_without_gradients(run: _Run, stage: Fit, index: int, variables: Variables | None) -> Variables:
    """A stage that fits by other means; it counts as one step and is done whole or again."""
    logger.info("stage %s", stage.name)
    run.stop.waits = False
    if variables is None:
        batch = next(iter(run.data.train(len(run.devices), run.experiment.seed + index, 0)))
        variables = _begin_model(run, index, batch, jax.tree.map(lambda x: x[:1], batch))
    fitted = dict(stage.fit(run.model, jax.device_get(variables), run.data, run.key(index)))
    run.progress = replace(run.progress, step=run.progress.step + 1, stage=index + 1)
    run.save(fitted, {"step": np.int32(0)})
    return fitted


def _begin_model(run: _Run, index: int, batch: Batch, share: Batch) -> Variables:
    """Draws the first parameters; shows what the model will be given."""
    variables = initial_variables(run.model, jax.random.fold_in(run.key(index), 2**31 - 1), share)
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
    logger.info("%s parameters", f"{count:,}")
    picture = run.experiment.task.draw_batch(batch, run.data.classes)
    run.folder.write_picture("train_batch.png", picture)
    return variables


def _evaluate(run: _Run, variables: Variables) -> None:
    """Judges the state just saved, and adds the outcome to its checkpoint's record."""
    began = time.perf_counter()
    run.report = _judge(run, "default", run.model, variables)
    values = {f"val/{name}": float(value) for name, value in run.report.metrics.items()}
    row = {"step": float(run.progress.step), **values, "time/evaluation": time.perf_counter() - began}
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


def _final_evaluations(run: _Run, variables: Variables) -> Report:
    """Every evaluation of the last checkpoint: "default" once more only if this process has not done it."""
    run.stop.waits = True
    if run.progress.evaluated != run.progress.step:
        _evaluate(run, variables)
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
        run.write_row({"step": float(run.progress.step), **row})
    run.folder.write_json("results.json", results)
    _draw_curves(run)
    for text in tables.values():
        logger.info("\n%s", text.rstrip())
    logger.info("done: %s", run.folder.path)
    return run.report


def _judge(run: _Run, name: str, model: nn.Module, variables: Variables) -> Report:
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


def _note_resumption(record: dict[str, Any], devices: list[Device]) -> None:
    """Adds this process to experiment.json; warns where its bits may differ from the run's so far."""
    here = machine(devices)
    for what in ("versions", "devices"):
        if record.get(what) != here[what]:
            logger.warning(
                "%s differ from those the run began with (%s, now %s): it goes on, with other rounding",
                *(what, record.get(what), here[what]),
            )
    record["resumed"] = [*record.get("resumed", []), {"when": now(), **here}]


def _opening_words(run: _Run, resume: bool) -> str:
    device = run.devices[0]
    where = f"{len(run.devices)} x {device.device_kind}" if len(run.devices) > 1 else device.device_kind
    start = f"continues at step {run.progress.step}" if resume else "begins"
    if resume and not run.progress.step:
        start = "has no checkpoint yet and begins again"
    return (
        f"{run.folder.path} {start}: {len(run.data.classes)} classes, seed {run.experiment.seed}, on {where}"
    )


def _draw_curves(run: _Run) -> None:
    if run.draw_curves is not None:
        run.folder.write_picture("curves.png", run.draw_curves(run.metrics.rows))


def _due(every: int, done: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens after this one."""
    return every > 0 and done > 0 and done % every == 0
