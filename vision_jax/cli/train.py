"""`vision-jax train`: an experiment, its arguments, and how to run it."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_jax.cli.devices import use_devices
from vision_jax.cli.experiments import (
    arguments_to_json,
    check_recordable,
    defaults_to_json,
    parse,
    words_of,
)
from vision_jax.cli.origins import find_origin, load_experiment, needed_origin, split_origin
from vision_jax.cli.runs import Run, new_folder, open_run
from vision_jax.training.distributed import from_first, is_first, joined
from vision_jax.training.experiment import Experiment
from vision_jax.training.loop import fit
from vision_jax.training.origin import Origin
from vision_jax.training.run_folder import differences
from vision_jax.types import UserError, check_options

USAGE = """\
usage: vision-jax train EXPERIMENT [options]
       vision-jax train --resume RUN

EXPERIMENT is a recipe (mask_rcnn), the folder of a claim, or a Python file.

Trains it and writes a run folder: experiment.json, metrics.csv, curves.png, predictions.png, tables,
checkpoints. `vision-jax train EXPERIMENT --help` lists the experiment's own options, and:

  --out FOLDER     the run folder; runs/NAME of the experiment if left out
  --overfit N      sanity check: overfit the first N training images, and evaluate on them
  --resume RUN     continue a run that was stopped, with the arguments it was started with
  --profile        trace some steps for TensorBoard into the run folder
  --devices N      how many devices; all if left out (without accelerators: N virtual CPU devices)
  --distributed A  one of several processes: A is HOST:PORT of process 0, with --processes N and --process I,
                   or auto; left out under Slurm, Open MPI and on TPU pods
"""


@dataclass(frozen=True)
class TrainOptions:
    """How to run it.

    Attributes:
        out: the run folder; runs/ and the experiment's name if left out.
        overfit: sanity check: overfit the first N training images, not augmented, and evaluate on them; 0
            is all of the data.
        resume: continue this run, with the arguments it was started with.
        profile: trace some steps for TensorBoard into the run folder.
        devices: how many devices of each process; all if left out. Without accelerators: that many virtual
            CPU devices.
        distributed: HOST:PORT of process 0 where this is one of several processes; auto for what JAX finds
            out by itself. Slurm, Open MPI and TPU pods are noticed without it.
        processes: how many processes there are, with --distributed HOST:PORT.
        process: which of them this is, from 0.
    """

    out: Path | None = None
    overfit: int = 0
    resume: Path | None = None
    profile: bool = False
    devices: int | None = None
    distributed: str | None = None
    processes: int | None = None
    process: int | None = None


def run(words: Sequence[str]) -> None:
    """Trains.

    Args:
        words: after `vision-jax train`.

    Raises:
        UserError: a mistake in the experiment, the options or the data.
    """
    word, rest = split_origin(words)
    folder = _resumed_folder(rest)
    if folder is not None:
        _resume(open_run(folder), rest, None if word is None else find_origin(word))
        return
    origin, rest = needed_origin(words, "train", USAGE)
    function = load_experiment(origin)
    arguments, options = parse(function, rest, f"vision-jax train {origin.word}", TrainOptions())
    _check(options)
    check_recordable(function, arguments)
    use_devices(options.devices)
    with joined(options.distributed, options.processes, options.process):
        check_options(function, arguments)
        _try_data(function(**arguments))
        experiment = function(**arguments)
        out = Path(from_first(lambda: str(options.out or new_folder(origin.name))))
        if is_first():
            print(f"run folder: {out}", file=sys.stderr, flush=True)
        fit(
            experiment,
            out,
            overfit=options.overfit,
            profile=options.profile,
            devices=options.devices,
            recipe=origin.recipe,
            file=origin.file,
            arguments=check_recordable(function, arguments),
        )
        if is_first():
            print(
                f"done; next: vision-jax predict {out} IMAGE ..., vision-jax evaluate {out}", file=sys.stderr
            )


def _try_data(experiment: Experiment) -> None:
    """Opens the data before there is a run folder, so that a mistake in them leaves none behind."""
    logger = logging.getLogger("vision_jax")
    # The run opens them again: what is odd about them is said then, once, and stands in its log.
    logger.disabled = True
    try:
        experiment.task.open(None)
    finally:
        logger.disabled = False


def _check(options: TrainOptions) -> None:
    if options.overfit < 0:
        raise UserError(f"--overfit {options.overfit}: give a number of images, 1 or more")


def _resumed_folder(words: Sequence[str]) -> Path | None:
    for i, word in enumerate(words):
        if word == "--resume":
            if i + 1 == len(words):
                raise UserError("--resume needs a run folder: --resume runs/NAME")
            return Path(words[i + 1])
        if word.startswith("--resume="):
            return Path(word.removeprefix("--resume="))
    return None


def _resume(run: Run, words: Sequence[str], origin: Origin | None) -> None:
    """Continues a run, by its recipe or its own copy of the experiment's file, with its recorded arguments.

    The words may repeat the command that started it, but change nothing.
    """
    overfit = int(run.record.get("overfit") or 0)
    prog = f"vision-jax train {origin.word if origin else ''}".strip()
    arguments, options = parse(
        run.function, words, prog, TrainOptions(overfit=overfit), defaults=run.arguments
    )
    _check(options)
    changed = differences(arguments_to_json(run.arguments), arguments_to_json(arguments))
    if options.overfit != overfit:
        changed.append(f"--overfit is {overfit} in the run, not {options.overfit}")
    if options.out is not None and options.out.resolve() != run.folder.resolve():
        changed.append(f"--out is {run.folder} in the run, not {options.out}")
    if changed:
        raise UserError(
            f"--resume continues {run.folder} as it was started: {'; '.join(changed)}. "
            f"Leave these options out, or {_new_run(run, origin, arguments, options)}"
        )
    if origin is not None and not _same(origin, run.origin):
        print(
            f"vision-jax: {origin.word} is not, or no longer, what {run.folder} was started with; continuing "
            f"with {run.origin.word}",
            file=sys.stderr,
        )
    use_devices(options.devices)
    with joined(options.distributed, options.processes, options.process):
        fit(
            run.function(**run.arguments),
            run.folder,
            resume=True,
            overfit=overfit,
            profile=options.profile,
            devices=options.devices,
            recipe=run.origin.recipe,
            file=run.original,
            arguments=_recorded(run),
        )


def _same(one: Origin, other: Origin) -> bool:
    """Whether two origins are the same recipe, or files of the same content."""
    if one.file is None or other.file is None:
        return one.recipe == other.recipe
    return one.file.read_bytes() == other.file.read_bytes()


def _new_run(run: Run, origin: Origin | None, arguments: Mapping[str, Any], options: TrainOptions) -> str:
    """How to start a new run from the weights of one, with other arguments."""
    if origin is not None:
        word = origin.word
    else:
        word = str(run.original) if run.original is not None and run.original.is_file() else run.origin.word
    recorded = arguments_to_json(arguments)
    if "init" not in recorded:
        return (
            "start a new run without --resume. For the new run to begin with this run's weights, give the "
            f"experiment of {word} an argument `init`, as the recipe image_classifier has one, and type "
            f"--init {run.folder}"
        )
    if recorded["init"] == arguments_to_json(run.arguments).get("init"):
        recorded["init"] = str(run.folder)
    words = words_of(defaults_to_json(run.function), recorded)
    words += ["--overfit", str(options.overfit)] if options.overfit else []
    if options.out is not None and options.out.resolve() != run.folder.resolve():
        words += ["--out", str(options.out)]
    command = shlex.join(["vision-jax", "train", word, *words])
    return f"start a new run from its weights, with a new optimizer and schedule: {command}"


def _recorded(run: Run) -> Mapping[str, Any]:
    return run.record.get("arguments") or {}
