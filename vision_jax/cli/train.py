"""`vision-jax train`: an experiment file, its arguments, and how to run it."""

from __future__ import annotations

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
    load_experiment,
    needed_file,
    parse,
    resolve,
    split_file,
    words_of,
)
from vision_jax.cli.runs import Run, new_folder, open_run
from vision_jax.training.distributed import from_first, is_first, joined
from vision_jax.training.loop import fit
from vision_jax.training.run_folder import differences
from vision_jax.types import UserError

USAGE = """\
usage: vision-jax train EXPERIMENT.py [options]
       vision-jax train --resume RUN

Trains an experiment and writes a run folder: experiment.json, metrics.csv, curves.png, predictions.png,
tables, checkpoints. `vision-jax train EXPERIMENT.py --help` lists the experiment's own options, and:

  --out FOLDER     the run folder; runs/NAME of the experiment file if left out
  --overfit N      sanity check: learn the first N training images by heart, and judge on them
  --resume RUN     go on with a run that was stopped, with the arguments it was started with
  --profile        trace some steps for TensorBoard into the run folder
  --devices N      how many devices; all if left out (without accelerators: N virtual CPU devices)
  --distributed A  one of several processes: A is HOST:PORT of process 0, with --processes N and --process I,
                   or auto; left out under Slurm, Open MPI and on TPU pods
"""


@dataclass(frozen=True)
class TrainOptions:
    """How to run it.

    Attributes:
        out: the run folder; runs/ and the file's name if left out.
        overfit: sanity check: learn the first N training images by heart, not augmented, and judge on
            them; 0 is all of the data.
        resume: go on with this run, with the arguments it was started with.
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
        UserError: a mistake in the file, the options or the data.
    """
    file, rest = split_file(words)
    folder = _resumed_folder(rest)
    if folder is not None:
        _resume(open_run(folder), rest, file)
        return
    file, rest = needed_file(words, "train", USAGE)
    function = load_experiment(file)
    arguments, options = parse(function, rest, f"vision-jax train {file}", TrainOptions())
    _check(options)
    check_recordable(function, arguments)
    use_devices(options.devices)
    with joined(options.distributed, options.processes, options.process):
        arguments, experiment = resolve(function, arguments)
        out = Path(from_first(lambda: str(options.out or new_folder(file.stem))))
        if is_first():
            print(f"run folder: {out}", file=sys.stderr, flush=True)
        fit(
            experiment,
            out,
            overfit=options.overfit,
            profile=options.profile,
            devices=options.devices,
            file=file,
            arguments=check_recordable(function, arguments),
        )
        if is_first():
            print(
                f"done; next: vision-jax predict {out} PHOTO ..., vision-jax evaluate {out}", file=sys.stderr
            )


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


def _resume(run: Run, words: Sequence[str], file: Path | None) -> None:
    """Goes on with a run, by its own copy of the experiment file and its recorded arguments.

    The words may repeat the command that started it, but change nothing.
    """
    overfit = int(run.record.get("overfit") or 0)
    prog = f"vision-jax train {file or ''}".strip()
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
            f"--resume goes on with {run.folder} as it was started: {'; '.join(changed)}. "
            f"Leave these options out, or {_new_run(run, file, arguments, options)}"
        )
    if file is not None and not file.is_file():
        raise UserError(f"there is no experiment file {file}")
    if file is not None and file.read_bytes() != run.file.read_bytes():
        print(
            f"vision-jax: {file} has changed since {run.folder} was started; going on with {run.file}",
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
            file=run.original,
            arguments=_recorded(run),
        )


def _new_run(run: Run, file: Path | None, arguments: Mapping[str, Any], options: TrainOptions) -> str:
    """How to start a new run from the weights of one, with other arguments."""
    file = next(path for path in (file, run.original, run.file) if path is not None and path.is_file())
    recorded = arguments_to_json(arguments)
    if "init" not in recorded:
        return (
            "start a new run without --resume. For the new run to begin with this run's weights, give the "
            f"experiment of {file} an argument `init`, as experiments/image_classifier.py has one, and type "
            f"--init {run.folder}"
        )
    if recorded["init"] == arguments_to_json(run.arguments).get("init"):
        recorded["init"] = str(run.folder)
    words = words_of(defaults_to_json(run.function), recorded)
    words += ["--overfit", str(options.overfit)] if options.overfit else []
    if options.out is not None and options.out.resolve() != run.folder.resolve():
        words += ["--out", str(options.out)]
    command = shlex.join(["vision-jax", "train", str(file), *words])
    return f"start a new run from its weights, with a new optimizer and schedule: {command}"


def _recorded(run: Run) -> Mapping[str, Any]:
    return run.record.get("arguments") or {}
