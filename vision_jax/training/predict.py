"""A checkpoint in use: evaluated on the evaluation data, or predicting new images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Key

from vision_jax.training.compilation import keep_compiled_programs
from vision_jax.training.distributed import gathered, own_rows
from vision_jax.training.experiment import Batch, Classes, Data, Experiment, Gradient, Predictions, Task
from vision_jax.training.parallel import (
    Device,
    data_parallel,
    gather,
    local,
    local_devices,
    replicate,
    shard,
)
from vision_jax.training.run_folder import RunFolder
from vision_jax.training.state import Variables
from vision_jax.training.step import evaluation_step, prediction_step
from vision_jax.types import Picture, Report, UserError, stack_pictures

Which = Literal["best", "last"]

PLOTTED_EXAMPLES = 8


def read_experiment_json(run_folder: Path | str) -> dict[str, Any]:
    """Reads experiment.json.

    Args:
        run_folder: of the run.

    Returns:
        recipe (its import path) or file (its original path; the copy is `run_folder/experiment.py`),
        arguments, classes, seed, overfit, versions, commit, devices, started, resumed.

    Raises:
        UserError: it is not a run folder.
    """
    return RunFolder(run_folder).read_record()


def load_variables(run_folder: Path | str, which: Which = "last") -> Variables:
    """The parameters and statistics of a checkpoint, as numpy arrays.

    Args:
        run_folder: of the run.
        which: the last checkpoint or the best; one whose variables are damaged is passed over with a warning.
            The optimizer's state is not checked.

    Returns:
        {"params": ..., "batch_stats": ..., ...}, for `model.apply`.

    Raises:
        UserError: there is no checkpoint whose variables are sound.
    """
    checkpoints = RunFolder(run_folder).checkpoints
    progress = checkpoints.best() if which == "best" else checkpoints.newest(variables_only=True)
    if progress is None:
        raise UserError(f"{run_folder} has no checkpoint yet")
    return checkpoints.restore_variables(progress.step)


def predictor(
    experiment: Experiment,
    run_folder: Path | str,
    *,
    which: Which = "last",
    evaluation: str = "default",
    devices: int | None = None,
) -> Callable[[Batch], Predictions]:
    """A trained model as a function; no data set is opened.

    Args:
        experiment: as the run was started with.
        run_folder: of the run.
        which: the last checkpoint or the best.
        evaluation: "default" or a name in `experiment.evaluations`.
        devices: how many local devices to use; all of them if None.

    Returns:
        batch, numpy [b, ...] of any b (from `experiment.task.prepare`) -> predictions, numpy [b, ...].

    Raises:
        UserError: no checkpoint, or no such evaluation.
    """
    keep_compiled_programs()
    used = local_devices(devices)
    classes = _classes(run_folder)
    model = named_models(experiment, experiment.model(classes)).get(evaluation)
    if model is None:
        names = ", ".join(["default", *experiment.evaluations])
        raise UserError(f"evaluation: {evaluation!r} is none of {names}")
    variables = replicate(load_variables(run_folder, which), used)
    step = data_parallel(prediction_step(model), used, out_axes=0, donate_argnums=())
    key = evaluation_key(experiment.seed)

    def predict(batch: Batch) -> Predictions:
        size = len(jax.tree.leaves(batch)[0])
        padding = -size % len(used)
        padded = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[-1:], padding, axis=0)]), batch)
        predictions = gather(step(variables, shard(padded, len(used)), key))
        return jax.tree.map(lambda x: x[:size], predictions)

    return predict


def evaluate(
    experiment: Experiment,
    run_folder: Path | str,
    *,
    which: Which = "last",
    out: Path | None = None,
    devices: int | None = None,
) -> dict[str, Report]:
    """Evaluates a run's checkpoint on the experiment's evaluation data, opened with the run's classes.

    Args:
        experiment: as the run was started with; its data may differ.
        run_folder: of the run.
        which: the last checkpoint or the best.
        out: for tables, figures, predictions.png and results.json; those of a named evaluation go to
            a folder of its name. `run_folder/evaluate` if None.
        devices: how many local devices to use; all of them if None.

    Returns:
        A report for "default" and each of `experiment.evaluations`; its metrics have the validation
        losses too, their sum as `loss`.

    Raises:
        UserError: no checkpoint, or data with a class that the run has not seen.
    """
    keep_compiled_programs()
    used = local_devices(devices)
    classes = _classes(run_folder)
    data = experiment.task.open(classes)
    variables = replicate(load_variables(run_folder, which), used)
    folder = RunFolder(out if out is not None else Path(run_folder) / "evaluate")
    reports = {}
    for name, model in named_models(experiment, experiment.model(classes)).items():
        run_evaluation = EvaluationLoop(model, experiment.task, used, experiment.seed)
        batch_size = evaluation_batch_size(experiment, len(used))
        reports[name], picture = run_evaluation(variables, data, batch_size)
        below = "." if name == "default" else name
        folder.write_report(reports[name], below)
        folder.write_picture(f"{below}/predictions.png", picture)
    folder.write_json("results.json", {name: dict(report.metrics) for name, report in reports.items()})
    return reports


class EvaluationLoop:
    """One way to predict, compiled, for any number of passes over the evaluation data.

    Where devices are of several processes, each process predicts its rows of every batch; all processes get
    all predictions and compute the same metrics.

    Args:
        model: with `loss` and `predict`.
        task: plots the predictions.
        devices: to predict on.
        seed: of the experiment, for predictions that use random numbers.
        between: called between batches; may raise to stop the pass.

    Attributes:
        image_seconds: seconds per image in the last pass, for loss, prediction and metrics, without the first
            batch, which compiles; NaN where there was no other.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        devices: Sequence[Device],
        seed: int,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._devices = devices
        self._task = task
        self._key = evaluation_key(seed)
        self._between = between
        self._step = data_parallel(evaluation_step(model), devices, out_axes=(None, 0), donate_argnums=())

    def __call__(self, variables: Variables, data: Data, batch_size: int) -> tuple[Report, Picture]:
        """Passes over the evaluation data once.

        Args:
            variables: on the loop's devices.
            data: with the evaluation images and the evaluators.
            batch_size: divisible by the number of devices.

        Returns:
            The evaluators' reports in one, with the mean losses among the metrics, and a picture of
            the first images.

        Raises:
            UserError: there are no evaluation images.
        """
        evaluators = data.evaluators()
        totals: dict[str, tuple[float, float]] = {}
        pictures: list[Picture] = []
        plotted = batches = 0
        second = last = time.perf_counter()
        for batch, losses, predictions in self._predict(variables, data.evaluation(batch_size)):
            for name, mean in losses.items():
                total, weight = totals.get(name, (0.0, 0.0))
                totals[name] = total + float(mean.total), weight + float(mean.weight)
            for evaluator in evaluators:
                evaluator.add(batch, predictions)
            if plotted < PLOTTED_EXAMPLES:
                pictures.append(self._task.plot_predictions(batch, predictions, data.classes))
                plotted += batch_size
            last = time.perf_counter()
            batches += 1
            second = last if batches == 1 else second
        self.image_seconds = (last - second) / ((batches - 1) * batch_size) if batches > 1 else math.nan
        if not pictures:
            raise UserError("the evaluation data hold no image")
        report = Report(metrics=_mean_losses(totals))
        for evaluator in evaluators:
            report |= evaluator.report()
        return report, stack_pictures(pictures, gap=0)

    def _predict(self, variables: Variables, batches: Iterable[Batch]) -> Iterator[tuple[Any, Any, Any]]:
        """Yields (batch, losses, predictions), each while the devices compute the next batch."""
        ahead = None
        for batch in batches:
            self._between()
            shards = shard(own_rows(batch, self._devices), len(local(self._devices)))
            outputs = self._step(variables, shards, self._key)
            if ahead is not None:
                yield self._fetched(*ahead)
            ahead = batch, outputs
        if ahead is not None:
            yield self._fetched(*ahead)

    def _fetched(self, batch: Batch, outputs: tuple[Any, Any]) -> tuple[Batch, Any, Predictions]:
        """(batch, losses, predictions [B, ...] of all processes), as numpy."""
        losses, predictions = outputs
        return batch, jax.device_get(losses), gathered(gather(predictions), self._devices)


def named_models(experiment: Experiment, model: nn.Module) -> dict[str, nn.Module]:
    """The ways to predict from one checkpoint: "default" first, then the experiment's evaluations."""
    others = {name: change(model) for name, change in experiment.evaluations.items() if name != "default"}
    return {"default": model, **others}


def evaluation_batch_size(experiment: Experiment, devices: int) -> int:
    """The batch size of the last gradient stage, else 8, rounded up to a multiple of the devices."""
    sizes = [stage.train.batch_size for stage in experiment.stages if isinstance(stage, Gradient)]
    size = sizes[-1] if sizes else 8
    return size + -size % devices


def evaluation_key(seed: int) -> Key[Array, ""]:
    """The key of predictions that use random numbers: the same at every evaluation."""
    return jax.random.fold_in(jax.random.key(seed), 2**31 - 1)


def _classes(run_folder: Path | str) -> Classes:
    """The class names that a run recorded.

    Raises:
        UserError: the run was stopped before it recorded them.
    """
    classes = read_experiment_json(run_folder)["classes"]
    if classes is None:
        raise UserError(f"{run_folder} was stopped before its data were opened; start the run again")
    return tuple(classes)


def _mean_losses(totals: dict[str, tuple[float, float]]) -> dict[str, float]:
    """`loss`, the sum of the terms' means, and each mean, from (total, weight) by name; 0 for 0 / 0."""
    means = {name: total / weight if weight > 0 else 0.0 for name, (total, weight) in totals.items()}
    loss = {"loss": sum(means.values())}
    return loss | means | loss
