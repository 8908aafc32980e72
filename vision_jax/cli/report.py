"""`vision-jax report`: a sweep's table, figure and verdicts; or one page of the verdicts of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

import tyro

from vision_jax.cli.origins import load_module, recipe_origin
from vision_jax.sweeps.claims import Claim, PaperFigures, Study, check_statements
from vision_jax.sweeps.folder import SweepFolder
from vision_jax.sweeps.index import INDEX, index_page
from vision_jax.sweeps.points import check_points
from vision_jax.sweeps.report import write_report
from vision_jax.training.files import storage_errors, write_atomically
from vision_jax.training.origin import Origin
from vision_jax.types import UserError


@dataclass(frozen=True)
class ReportOptions:
    """Writes table.md, table.csv, figure.png and images.png of a sweep into its folder; prints the table.

    Attributes:
        sweep: the sweep's folder, finished or not.
        index: instead, a folder of experiments: write its index.md, a page of all verdicts that its pages
            TOPIC/NAME/result.md hold.
    """

    sweep: Annotated[Path | None, tyro.conf.Positional] = None
    index: Path | None = None


def run(words: Sequence[str]) -> None:
    """Reports.

    Args:
        words: after `vision-jax report`.

    Raises:
        UserError: no sweep, or nothing done yet; no results to make an index of.
    """
    options = tyro.cli(ReportOptions, prog="vision-jax report", args=list(words))
    if (options.sweep is None) == (options.index is None):
        raise UserError("give a sweep's folder, or --index and a folder of experiments")
    if options.index is not None:
        page = options.index / INDEX
        with storage_errors(page):
            write_atomically(page, index_page(options.index))
        print(f"written: {page}")
    if options.sweep is not None:
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
    recipe = folder.read_record().get("recipe")
    if recipe:
        origin = recipe_origin(recipe)
    elif folder.experiment.is_file():
        origin = Origin(str(folder.experiment), file=folder.experiment)
    else:
        raise UserError(f"{folder.path} holds no experiment.py: copy the sweep's experiment file there")
    study = study_of(load_module(origin), origin.word)
    text = write_report(folder, study)
    return f"{text}\nwritten to {folder.path}: table.md, table.csv, figure.png, images.png"


def study_of(module: ModuleType, where: str) -> Study:
    """What an experiment's module says of its sweep: SWEEP, METRICS, PAPER, CLAIMS and COLUMNS.

    Args:
        module: of an experiment.
        where: its name, for messages.

    Returns:
        The study; one point with nothing varied where the module has no SWEEP.

    Raises:
        UserError: one of them is not what it should be.
    """
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
