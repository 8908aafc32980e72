"""`vision-jax evaluate`: evaluates a run's checkpoint, on its own evaluation data or on others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vision_jax.cli.devices import use_devices
from vision_jax.cli.runs import Run, open_run
from vision_jax.cli.tables import print_metrics, print_tables
from vision_jax.training.experiment import Experiment
from vision_jax.training.predict import evaluate
from vision_jax.types import UserError


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluates a run's checkpoint and writes tables, pictures and predictions.json.

    Attributes:
        run: the run folder.
        data: another data set instead of the run's, as the experiment's own --data takes it.
        which: the checkpoint with the best metric so far, or the last one.
        out: where the tables and pictures go; a folder in the run folder if left out.
        devices: how many devices; all if left out.
    """

    run: Annotated[Path, tyro.conf.Positional]
    data: str | None = None
    which: Literal["last", "best"] = "last"
    out: Path | None = None
    devices: int | None = None


def run(words: Sequence[str]) -> None:
    """Evaluates.

    Args:
        words: after `vision-jax evaluate`.

    Raises:
        UserError: a mistake in the options, the run folder or the data.
    """
    options = tyro.cli(EvaluateOptions, prog="vision-jax evaluate", args=list(words))
    opened = open_run(options.run)
    use_devices(options.devices)
    experiment = build(opened, options.data)
    name = "evaluate" if options.data is None else f"evaluate-{_slug(options.data)}"
    out = options.out or options.run / name
    reports = evaluate(experiment, options.run, which=options.which, out=out, devices=options.devices)
    for name, report in reports.items():
        if name != "default":
            print(f"\n== {name}")
        print_tables(report.tables)
        print()
        print_metrics(report.metrics)
    print(f"\nwritten to {out}")


def build(run: Run, data: str | None = None) -> Experiment:
    """The experiment of a run as it was, or with other data.

    Args:
        run: an opened run.
        data: replaces the experiment's argument `data`.

    Returns:
        The experiment.

    Raises:
        UserError: other data are wanted, but the experiment has no argument `data`.
    """
    arguments = dict(run.arguments)
    if data is not None:
        if "data" not in arguments:
            raise UserError(
                f"{run.origin.word}: the experiment has no argument `data`, so --data cannot replace it"
            )
        arguments["data"] = data
    return run.function(**arguments)


def _slug(spec: str) -> str:
    """`voc:../shared/data/bccd/` -> `voc-bccd`."""
    kind, _, path = spec.rpartition(":")
    words = [kind, *Path(path).parts[-1:]]
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(filter(None, words))).strip("-")
