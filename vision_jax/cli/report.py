"""`vision-jax report`: the table, figure and verdicts of a sweep, from what its trials wrote."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vision_jax.cli.experiments import ExperimentFunction, load_experiment
from vision_jax.sweeps.claims import Claim, PaperFigures, Study, check_statements
from vision_jax.sweeps.folder import SweepFolder
from vision_jax.sweeps.points import check_points
from vision_jax.sweeps.report import write_report
from vision_jax.types import UserError


@dataclass(frozen=True)
class ReportOptions:
    """Writes table.md, table.csv, figure.png and images.png of a sweep into its folder; prints the table.

    Attributes:
        sweep: the sweep's folder, finished or not.
    """

    sweep: Annotated[Path, tyro.conf.Positional]


def run(words: Sequence[str]) -> None:
    """Reports.

    Args:
        words: after `vision-jax report`.

    Raises:
        UserError: no sweep, or nothing done yet.
    """
    options = tyro.cli(ReportOptions, prog="vision-jax report", args=list(words))
    print(report(SweepFolder(options.sweep)))


def report(folder: SweepFolder) -> str:
    """Writes a sweep's report by what its copy of the experiment file says.

    Args:
        folder: the sweep's.

    Returns:
        The table, and where the files are.

    Raises:
        UserError: no sweep, or nothing done yet.
    """
    folder.read_record()
    if not folder.experiment.is_file():
        raise UserError(f"{folder.path} holds no experiment.py: copy the sweep's experiment file there")
    function = load_experiment(folder.experiment)
    study = study_of(function, folder.experiment)
    text = write_report(folder, study)
    return f"{text}\nwritten to {folder.path}: table.md, table.csv, figure.png, images.png"


def study_of(function: ExperimentFunction, file: Path) -> Study:
    """What an experiment file says of its sweep: SWEEP, METRICS, PAPER, CLAIMS and COLUMNS.

    Args:
        function: its `experiment`.
        file: the file, for messages.

    Returns:
        The study; one point with nothing varied where the file has no SWEEP.

    Raises:
        UserError: one of them is not what it should be.
    """
    module = sys.modules[function.__module__]
    where = str(file)
    columns = getattr(module, "COLUMNS", "")
    if not isinstance(columns, str):
        raise UserError(f"{where}: COLUMNS is the name of an argument, not {columns!r}")
    return Study(
        points=check_points(getattr(module, "SWEEP", [{}]), where),
        metrics=check_statements(getattr(module, "METRICS", ()), str, "METRICS", where),
        paper=check_statements(getattr(module, "PAPER", ()), PaperFigures, "PAPER", where),
        claims=check_statements(getattr(module, "CLAIMS", ()), Claim, "CLAIMS", where),
        columns=columns,
    )
