"""Run folders as commands see them: which experiment it was, with which arguments."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vision_jax.cli.experiments import ExperimentFunction, arguments_from_json
from vision_jax.cli.origins import load_experiment, recipe_origin
from vision_jax.training.origin import Origin
from vision_jax.training.predict import read_experiment_json
from vision_jax.types import UserError


@dataclass(frozen=True)
class Run:
    """A run that was started by `vision-jax train`.

    Attributes:
        folder: the run folder.
        function: its `experiment`.
        origin: where that was loaded from: the recipe, or the copy of the experiment's file in the folder.
        original: where the experiment's file was; None for a recipe.
        arguments: by name, as the run was started.
        record: all of experiment.json.
    """

    folder: Path
    function: ExperimentFunction
    origin: Origin
    original: Path | None
    arguments: Mapping[str, Any]
    record: Mapping[str, Any]


def open_run(folder: Path) -> Run:
    """Reads experiment.json, and loads the recipe or the copy of the experiment's file that it names.

    Args:
        folder: a run folder.

    Returns:
        The run.

    Raises:
        UserError: no such folder, no run in it, one that was started from Python without recipe and file, or
            one of another version of the package that this version cannot build any more.
    """
    if not (folder / "experiment.json").is_file():
        raise UserError(_no_run(folder))
    record = read_experiment_json(folder)
    written = (record.get("versions") or {}).get("vision_jax", "unknown")
    here = version("vision_jax")
    if written == here:
        return _opened(folder, record)
    try:
        run = _opened(folder, record)
        experiment = run.function(**run.arguments)  # names that are no more show here
        if record["spec"] is not None:
            experiment.model(experiment.task.spec_type.from_json(record["spec"], folder))
    except Exception as error:
        copy = folder / "experiment.py"
        mend = f" bring {copy} up to date," if copy.is_file() else ""
        raise UserError(
            f"{folder} was written by vision_jax {written}, and this is {here}, which cannot open it "
            f"({error}): install the version that wrote it,{mend} or train anew"
        ) from error
    return run


def _opened(folder: Path, record: Mapping[str, Any]) -> Run:
    copy = folder / "experiment.py"
    if record.get("recipe"):
        origin, original = recipe_origin(record["recipe"]), None
    elif copy.is_file():
        origin, original = Origin(str(copy), file=copy), Path(record.get("file") or copy)
    else:
        raise UserError(
            f"{folder} holds no experiment.py: it was started from Python with `fit(...)`; give `fit` the "
            "experiment's `recipe` or `file`, and `arguments`, to use the command line afterwards"
        )
    function = load_experiment(origin)
    arguments = arguments_from_json(function, record.get("arguments") or {}, str(folder / "experiment.json"))
    return Run(folder, function, origin, original, arguments, record)


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


def new_folder(name: str, parent: Path = Path("runs")) -> Path:
    """A name for a new run: `runs/NAME`, or the first of `runs/NAME-2`, `runs/NAME-3`, ... that is free."""
    folder, number = parent / name, 2
    while folder.exists():
        folder, number = parent / f"{name}-{number}", number + 1
    return folder
