"""`vision-jax sweep`: every point of an experiment's SWEEP, each a run, and the report on them."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from vision_jax.cli.experiments import (
    ExperimentFunction,
    arguments_to_json,
    check_recordable,
    defaults_to_json,
    parse,
    words_of,
)
from vision_jax.cli.origins import experiment_of, load_module, needed_origin
from vision_jax.cli.report import report, study_of
from vision_jax.cli.values import from_json, to_json
from vision_jax.sweeps.board import Board
from vision_jax.sweeps.folder import SweepFolder, Trial
from vision_jax.sweeps.points import Point, point_name, with_axis
from vision_jax.sweeps.run import run_trials
from vision_jax.sweeps.workers import LocalWorkers, divide
from vision_jax.types import UserError, check_options

USAGE = """\
usage: vision-jax sweep EXPERIMENT [options]

EXPERIMENT is the folder of a claim, a Python file, or a recipe (mask_rcnn).

Runs every trial of its SWEEP that is not done, each in a process of its own, and writes the report.
The same command continues a sweep that was stopped. `vision-jax sweep EXPERIMENT --help` lists the
experiment's own options, which all trials share, and:

  --vary NAME=V1,V2,...   another axis, or other values for one; again for more (spaces within a value of
                          several words: --vary "canvas=256 192,512 384")
  --workers N             trials at a time; GPUs and CPU cores are divided among them
  --threads T             CPU cores of each worker; figures are bit-identical only for the same number
  --out FOLDER            the sweep's folder; runs/NAME of the experiment if left out
  --retry-failed          try failed trials again
  --dry-run               print the trials, and run none
"""


@dataclass(frozen=True)
class SweepOptions:
    """How to run it.

    Attributes:
        vary: NAME=V1,V2,...: another axis, or other values for one that the sweep has.
        workers: trials at a time, a process each; GPUs and CPU cores are divided among them.
        threads: CPU cores of each worker; as many for each if left out. For the same number
            results are bit-identical.
        out: the sweep's folder; runs/ and the experiment's name if left out.
        retry_failed: try trials again that failed.
        dry_run: print the trials, and run none.
    """

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    workers: int = 1
    threads: int | None = None
    out: Path | None = None
    retry_failed: bool = False
    dry_run: bool = False


def run(words: Sequence[str]) -> int:
    """Sweeps.

    Args:
        words: after `vision-jax sweep`.

    Returns:
        1 where a trial failed or was stopped, else 0.

    Raises:
        UserError: a mistake in the experiment, the options or the folder.
    """
    origin, rest = needed_origin(words, "sweep", USAGE)
    module = load_module(origin)
    function = experiment_of(module, origin)
    shared, options = parse(function, rest, f"vision-jax sweep {origin.word}", SweepOptions())
    study = study_of(module, origin.word)
    points = list(study.points)
    for axis in options.vary:
        points = with_axis(points, *_axis(function, shared, axis))
    _check_not_given(points, rest)
    trials = [make_trial(function, shared, point, origin.word) for point in points]
    folder = SweepFolder(options.out or Path("runs") / origin.name)
    if options.dry_run:
        for trial in trials:
            print(f"{folder.state(trial):<8} {trial.name}")
            run = str(folder.run_folder(trial))
            print(f"         {shlex.join(['vision-jax', 'train', origin.word, *trial.words, '--out', run])}")
        return 0
    resources = divide(options.workers, options.threads)
    command = shlex.join(["vision-jax", "sweep", *words])
    with folder.locked(lambda text: print(text, file=sys.stderr, flush=True)) as lock:
        folder.begin(origin, command, trials)
        print(f"{folder.path}: {len(trials)} trials", file=sys.stderr, flush=True)
        older = [trial.name for trial in trials if folder.outdated(trial, origin)]
        if older:
            print(
                f"{len(older)} trials began with another version of {origin.word}, and are kept "
                f"({older[0]}{', ...' if len(older) > 1 else ''}); delete their folders to run them anew",
                file=sys.stderr,
            )
        workers = LocalWorkers(resources, lock)
        board = Board(study.metrics)
        states = run_trials(folder, trials, origin, workers, board, options.retry_failed)
    if any(state == "done" for state in states.values()):
        print(report(folder))
    for trial in trials:
        if states[trial.name] == "failed":
            print(f"failed: {trial.name}; see {folder.failure(trial)}", file=sys.stderr)
    return 0 if all(state == "done" for state in states.values()) else 1


def make_trial(function: ExperimentFunction, shared: Mapping[str, Any], point: Point, where: str) -> Trial:
    """A point as a trial: its arguments checked, and the words that `vision-jax train` takes for them.

    Args:
        function: the experiment.
        shared: arguments of all trials.
        point: those that differ.
        where: the experiment's word on the command line, for messages.

    Returns:
        The trial.

    Raises:
        UserError: an argument that the experiment does not have, or a value that does not fit it.
    """
    arguments = dict(shared)
    for name, value in point.items():
        arguments = _with_value(function, arguments, name, value, f"{where}: SWEEP")
    recorded = check_recordable(function, arguments)
    check_options(function, arguments)
    trial_words = tuple(words_of(defaults_to_json(function), recorded))
    again, _ = parse(function, trial_words, f"vision-jax train {where}")
    if arguments_to_json(again) != recorded:
        raise UserError(f"{where}: SWEEP: {point_name(point)} cannot be written as a command line")
    values = {name: _json_value(value) for name, value in point.items()}
    return Trial(point_name(point), values, recorded, trial_words)


def _json_value(value: Any) -> Any:
    """As `to_json`, with numpy's numbers and ranges' as Python's."""
    return to_json(value.item() if hasattr(value, "item") else value)


def _with_value(
    function: ExperimentFunction, arguments: Mapping[str, Any], name: str, value: Any, where: str
) -> dict[str, Any]:
    """Arguments with one of them, or a field of one (`train.steps`), replaced."""
    first, *fields = name.replace("-", "_").split(".")
    if first not in arguments:
        raise UserError(f"{where} varies {name}, which the experiment does not take: {', '.join(arguments)}")
    hint = typing.get_type_hints(function, include_extras=True)[first]
    return {**arguments, first: _replaced(hint, arguments[first], fields, value, f"{where}: {name}")}


def _replaced(hint: Any, old: Any, fields: Sequence[str], value: Any, where: str) -> Any:
    if not fields:
        return from_json(hint, _json_value(value), where)
    if not dataclasses.is_dataclass(old) or isinstance(old, type):
        raise UserError(f"{where}: there is no {fields[0]} in {type(old).__name__}")
    hints = typing.get_type_hints(type(old), include_extras=True)
    if fields[0] not in hints:
        raise UserError(f"{where}: {type(old).__name__} has no {fields[0]}; it has {', '.join(hints)}")
    inner = _replaced(hints[fields[0]], getattr(old, fields[0]), fields[1:], value, where)
    return dataclasses.replace(old, **{fields[0]: inner})


def _axis(function: ExperimentFunction, shared: Mapping[str, Any], axis: str) -> tuple[str, list[Any]]:
    """`seed=0,1,2`: the argument's name and its values, read as the command line reads them."""
    name, equals, listed = axis.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    if not equals or not name or not listed:
        raise UserError(f"--vary {axis}: write NAME=V1,V2,..., such as --vary seed=0,1,2")
    first, *fields = name.split(".")
    if first not in inspect.signature(function).parameters:
        known = ", ".join(inspect.signature(function).parameters)
        raise UserError(f"--vary {axis}: the experiment has no {first}; it has {known}")
    values = []
    for text in listed.split(","):
        option = f"--{name}".replace("_", "-")
        if text in ("True", "False"):  # a flag, on the command line
            words = words_of({}, {name: text == "True"})
        else:
            words = [option, *text.split()]
        arguments, _ = parse(function, words, "vision-jax sweep --vary", defaults=shared)
        value = arguments[first]
        for field in fields:
            value = getattr(value, field)
        values.append(value)
    return name, values


def _check_not_given(points: Sequence[Point], words: Sequence[str]) -> None:
    """An option that the sweep varies must not be given for all trials: it would be ignored."""
    names = {name.replace("_", "-") for point in points for name in point}
    for word in words:
        given = word.partition("=")[0].replace("_", "-")
        for varied in names:
            *parents, last = varied.split(".")
            no = "--" + ".".join([*parents, f"no-{last}"])
            if given in (f"--{varied}", no) or given.startswith(f"--{varied}."):
                raise UserError(
                    f"--{varied} is what the sweep varies: choose its values with --vary {varied}=..."
                )
