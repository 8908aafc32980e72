"""Outcomes of a sweep's trials: rows, and arms, each with its seeds together."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_jax.sweeps.folder import SweepFolder, Trial
from vision_jax.sweeps.points import SEED, varied
from vision_jax.sweeps.progress import read_json_object
from vision_jax.training.metrics import Row, read_metrics

EVALUATION = "evaluation"
DEFAULT = "default"


@dataclass(frozen=True)
class Outcome:
    """One evaluation of a trial that is done.

    Attributes:
        trial: which.
        evaluation: "default" or the name of another way to predict from the same checkpoint.
        run: the run folder.
        metrics: by name.
        seconds: of the training's steps, without compiling, and of its evaluations, the first with it.
        example_seconds: that this evaluation took an example.
        step: what XLA says of a step: `flops` and `bytes`, on one device.
    """

    trial: Trial
    evaluation: str
    run: Path
    metrics: Mapping[str, float]
    seconds: float
    example_seconds: float
    step: Mapping[str, float]

    @property
    def seed(self) -> int:
        return int(self.trial.arguments.get(SEED, 0))

    @property
    def evaluation_folder(self) -> Path:
        """The folder of this evaluation's tables and files."""
        return self.run if self.evaluation == DEFAULT else self.run / "evaluations" / self.evaluation


@dataclass(frozen=True)
class Arm:
    """Outcomes that differ in the seed alone.

    Attributes:
        values: what makes the arm, with "evaluation" where there are several.
        outcomes: by seed.
        named: those of the values that not all arms share.
    """

    values: Mapping[str, Any]
    outcomes: Mapping[int, Outcome]
    named: tuple[str, ...]

    @property
    def label(self) -> str:
        named = [name for name in self.named if name in self.values]
        return ", ".join(f"{name}={value_text(self.values[name])}" for name in named) or DEFAULT

    def of(self, metric: str) -> list[float]:
        """A metric's values, seed by seed; those that are undefined left out."""
        values = (outcome.metrics.get(metric, math.nan) for outcome in self.outcomes.values())
        return [value for value in values if math.isfinite(value)]

    def mean(self, metric: str) -> float:
        values = self.of(metric)
        return statistics.fmean(values) if values else math.nan

    def spread(self, metric: str) -> float:
        """The standard deviation over seeds (n - 1); NaN for less than two."""
        values = self.of(metric)
        return statistics.stdev(values) if len(values) > 1 else math.nan


def read_outcomes(folder: SweepFolder) -> list[Outcome]:
    """The outcomes of all trials that are done, in the order of the trials and of their evaluations."""
    found = []
    for trial in folder.trials():
        if folder.state(trial) != "done":
            continue
        run = folder.run_folder(trial)
        rows = read_metrics(run / "metrics.csv")
        step = read_json_object(run / "cost.json")
        for evaluation, metrics in read_json_object(run / "results.json").items():
            name = "time/example" if evaluation == DEFAULT else f"time/example/{evaluation}"
            found.append(
                Outcome(
                    trial,
                    evaluation,
                    run,
                    {metric: float(value) for metric, value in metrics.items()},
                    _total(rows, "time/steps") + _total(rows, "time/evaluation"),
                    next((row[name] for row in reversed(rows) if name in row), math.nan),
                    {key: float(value) for key, value in step.items() if value is not None},
                )
            )
    return found


def _total(rows: Sequence[Row], name: str) -> float:
    return sum(row.get(name, 0.0) for row in rows)


def arms(outcomes: Sequence[Outcome]) -> list[Arm]:
    """Folds seeds, in the order in which the arms appear."""
    several = len({outcome.evaluation for outcome in outcomes}) > 1
    names = [name for name in varied([outcome.trial.values for outcome in outcomes]) if name != SEED]
    grouped: dict[str, tuple[dict[str, Any], dict[int, Outcome]]] = {}
    for outcome in outcomes:
        values = {name: outcome.trial.values[name] for name in names if name in outcome.trial.values}
        if several:
            values[EVALUATION] = outcome.evaluation
        _, members = grouped.setdefault(repr(values), (values, {}))
        members[outcome.seed] = outcome
    found = list(grouped.values())
    all_names = varied([values for values, _ in found])
    named = tuple(n for n in all_names if len({repr(values.get(n)) for values, _ in found}) > 1)
    return [Arm(values, members, named) for values, members in found]


def outcomes_csv(outcomes: Sequence[Outcome]) -> str:
    """Every number of every trial and evaluation, a row each.

    Columns `time/...` are the only ones that differ between two sweeps that are otherwise the same.
    """
    names = varied([outcome.trial.values for outcome in outcomes])
    metrics = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    steps = list(dict.fromkeys(name for outcome in outcomes for name in outcome.step))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["trial", *names, EVALUATION, *metrics, *(f"step/{s}" for s in steps), "time/seconds", "time/example"]
    )
    for outcome in outcomes:
        writer.writerow(
            [
                outcome.trial.name,
                *(value_text(outcome.trial.values[n]) if n in outcome.trial.values else "" for n in names),
                outcome.evaluation,
                *(_number(outcome.metrics.get(name)) for name in metrics),
                *(_number(outcome.step.get(name)) for name in steps),
                f"{outcome.seconds:.3f}",
                f"{outcome.example_seconds:.6f}",
            ]
        )
    return text.getvalue()


def value_text(value: Any) -> str:
    """A value of an argument as tables show it."""
    if isinstance(value, list | tuple):
        return "x".join(map(value_text, value)) or "none"
    return str(value)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(value)
