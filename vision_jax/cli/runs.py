"""Run folders as commands see them: which experiment it was, with which arguments."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_jax.cli.experiments import ExperimentFunction, arguments_from_json, load_experiment
from vision_jax.training.experiment import Classes
from vision_jax.training.predict import read_experiment_json
from vision_jax.types import UserError


@dataclass(frozen=True)
class Run:
    """A run that was started by `vision-jax train`.

    Attributes:
        folder: the run folder.
        function: the `experiment` of the copy in the folder.
        file: the copy.
        original: where the experiment file was.
        arguments: by name, as the run was started.
        record: all of experiment.json.
    """

    folder: Path
    function: ExperimentFunction
    file: Path
    original: Path
    arguments: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def classes(self) -> Classes:
        """The class names that the run was trained on."""
        return tuple(self.record["classes"])


def open_run(folder: Path) -> Run:
    """Reads experiment.json and loads the experiment file beside it.

    Args:
        folder: a run folder.

    Returns:
        The run.

    Raises:
        UserError: no such folder, no run in it, or a run that was started from Python without a file.
    """
    if not (folder / "experiment.json").is_file():
        raise UserError(_no_run(folder))
    record = read_experiment_json(folder)
    file = folder / "experiment.py"
    if not file.is_file():
        raise UserError(
            f"{folder} holds no experiment.py: it was started from Python with `fit(...)`; give `fit` the "
            "experiment's `file` and `arguments` to use the command line afterwards"
        )
    function = load_experiment(file)
    arguments = arguments_from_json(function, record.get("arguments") or {}, str(folder / "experiment.json"))
    return Run(folder, function, file, Path(record.get("file") or file), arguments, record)


def _no_run(folder: Path) -> str:
    if folder.is_file():
        return f"{folder} is a file; a run is a folder that `vision-jax train` wrote, such as runs/NAME"
    what = f"there is no run folder {folder}"
    if folder.is_dir():
        what = f"{folder} is no run folder: it has no experiment.json"
    parents = {folder.parent, Path("runs")}
    there = sorted({str(p.parent) for parent in parents for p in parent.glob("*/experiment.json")})
    near = difflib.get_close_matches(str(folder), there, n=1, cutoff=0.5)
    if near:
        return f"{what}; did you mean {near[0]}?"
    return f"{what}; there are: {', '.join(there)}" if there else what


def new_folder(stem: str, parent: Path = Path("runs")) -> Path:
    """A name for a new run: `runs/STEM`, or the first of `runs/STEM-2`, `runs/STEM-3`, ... that is free."""
    folder, number = parent / stem, 2
    while folder.exists():
        folder, number = parent / f"{stem}-{number}", number + 1
    return folder
