"""A checkpoint in use: evaluated on the evaluation data, or predicting for new inputs."""

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
from vision_jax.training.experiment import Batch, Data, Evaluation, Experiment, Predictions, Task
from vision_jax.training.features import without_features
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
from vision_jax.training.stages import players
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
        arguments, spec, seed, overfit, versions, commit, devices, started, resumed.

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
    ways = experiment.all_evaluations()
    if evaluation not in ways:
        raise UserError(f"evaluation: {evaluation!r} is none of {', '.join(ways)}")
    model = ways[evaluation].model(experiment.model(recorded_spec(experiment, run_folder)))
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
    """Evaluates a run's checkpoint on the experiment's evaluation data, opened with the run's spec.

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
        UserError: no checkpoint, or data that do not fit the run's spec.
    """
    keep_compiled_programs()
    used = local_devices(devices)
    spec = recorded_spec(experiment, run_folder)
    data = experiment.task.open(spec)
    model = experiment.model(spec)
    variables = replicate(load_variables(run_folder, which), used)
    folder = RunFolder(out if out is not None else Path(run_folder) / "evaluate")
    reports = {}
    for name, evaluation in experiment.all_evaluations().items():
        run_evaluation = EvaluationLoop(model, evaluation, experiment.task, used, experiment.seed)
        batch_size = evaluation_batch_size(experiment, len(used))
        reports[name], picture = run_evaluation(variables, data, batch_size)
        below = "." if name == "default" else name
        folder.write_report(reports[name], below)
        if picture is not None:
            folder.write_picture(f"{below}/predictions.png", picture)
    folder.write_json("results.json", {name: dict(report.metrics) for name, report in reports.items()})
    return reports


class EvaluationLoop:
    """One way to evaluate, compiled, for any number of passes over the evaluation data.

    Where devices are of several processes, each process predicts its rows of every batch; all processes get
    all predictions and compute the same metrics.

    Args:
        model: with `loss` and `predict`.
        evaluation: which of the two, with which prediction settings, on which examples.
        task: plots the predictions.
        devices: to predict on.
        seed: of the experiment, for predictions that use random numbers.
        between: called between batches; may raise to stop the pass.

    Attributes:
        example_seconds: seconds an example in the last pass, for loss, prediction and metrics, without the
            first batch, which compiles; NaN where there was no other.
    """

    def __init__(
        self,
        model: nn.Module,
        evaluation: Evaluation,
        task: Task[Any],
        devices: Sequence[Device],
        seed: int,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._evaluation = evaluation
        self._devices = devices
        self._task = task
        self._key = evaluation_key(seed)
        self._between = between
        step = evaluation_step(evaluation.model(model), evaluation.loss, evaluation.predict)
        self._step = data_parallel(step, devices, out_axes=(None, 0, 0), donate_argnums=())

    def __call__(self, variables: Variables, data: Data, batch_size: int) -> tuple[Report, Picture | None]:
        """Passes over the evaluation data once.

        Args:
            variables: on the loop's devices.
            data: with the evaluation examples and the evaluators.
            batch_size: divisible by the number of devices.

        Returns:
            The evaluators' reports in one, with the mean losses among the metrics, and a picture of
            the first examples, None without predictions.

        Raises:
            UserError: there are no evaluation examples.
        """
        if self._evaluation.examples is not None:
            data = data.first(self._evaluation.examples)
        evaluators = data.evaluators()
        totals: dict[str, tuple[float, float]] = {}
        pictures: list[Picture] = []
        plotted = batches = 0
        second = last = time.perf_counter()
        for batch, losses, per_example, predictions in self._outputs(variables, data.once("val", batch_size)):
            for name, mean in losses.items():
                total, weight = totals.get(name, (0.0, 0.0))
                totals[name] = total + float(mean.total), weight + float(mean.weight)
            for evaluator in evaluators:
                for method, outputs in zip(("add_losses", "add"), (per_example, predictions), strict=True):
                    if method in self._evaluation.methods() and hasattr(evaluator, method):
                        getattr(evaluator, method)(batch, outputs)
            if self._evaluation.predict and plotted < PLOTTED_EXAMPLES:
                pictures.append(self._task.plot_predictions(batch, predictions, data.spec))
                plotted += batch_size
            last = time.perf_counter()
            batches += 1
            second = last if batches == 1 else second
        self.example_seconds = (last - second) / ((batches - 1) * batch_size) if batches > 1 else math.nan
        if not batches:
            raise UserError("the evaluation data hold no example")
        report = Report(metrics=_mean_losses(totals) if self._evaluation.loss else {})
        for evaluator in evaluators:
            if any(hasattr(evaluator, method) for method in self._evaluation.methods()):
                report |= evaluator.report()
        return report, stack_pictures(pictures, gap=0) if pictures else None

    def _outputs(self, variables: Variables, batches: Iterable[Batch]) -> Iterator[tuple[Any, Any, Any, Any]]:
        """Yields (batch, losses, losses an example, predictions), each while the next batch is computed."""
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

    def _fetched(self, batch: Batch, outputs: tuple[Any, Any, Any]) -> tuple[Batch, Any, Any, Predictions]:
        """(batch, losses, losses an example [B], predictions [B, ...] of all processes), as numpy."""
        losses, *by_example = outputs
        per_example, predictions = gathered(gather(tuple(by_example)), self._devices)
        return without_features(batch), jax.device_get(losses), per_example, predictions


def evaluation_batch_size(experiment: Experiment, devices: int) -> int:
    """The batch size of the last gradient stage, else 8, rounded up to a multiple of the devices."""
    sizes = [player.train.batch_size for stage in experiment.stages for player in players(stage)]
    size = sizes[-1] if sizes else 8
    return size + -size % devices


def evaluation_key(seed: int) -> Key[Array, ""]:
    """The key of predictions that use random numbers: the same at every evaluation."""
    return jax.random.fold_in(jax.random.key(seed), 2**31 - 1)


def recorded_spec(experiment: Experiment, run_folder: Path | str) -> Any:
    """The spec of a run's data, as it was recorded.

    Args:
        experiment: as the run was started with.
        run_folder: of the run.

    Raises:
        UserError: it is not a run folder, or the run was stopped before it recorded a spec.
    """
    content = read_experiment_json(run_folder)["spec"]
    if content is None:
        raise UserError(f"{run_folder} was stopped before its data were opened; start the run again")
    return experiment.task.spec_type.from_json(content, Path(run_folder))


def _mean_losses(totals: dict[str, tuple[float, float]]) -> dict[str, float]:
    """`loss`, the sum of the terms' means, and each mean, from (total, weight) by name; 0 for 0 / 0."""
    means = {name: total / weight if weight > 0 else 0.0 for name, (total, weight) in totals.items()}
    loss = {"loss": sum(means.values())}
    return loss | means | loss
