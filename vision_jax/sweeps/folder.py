"""The folder of a sweep, and its trials: each a run folder, whose files tell how far it is.

sweep.json           what varies: trials by name, their arguments; the recipe or experiment file, the command
experiment.py        a copy of the experiment's file, for the report; none of a recipe
TRIAL/               a run folder; `results.json` in it says that the trial is done
output/TRIAL.txt     what the trial's process printed when it last ran
failed/TRIAL.txt     why it failed; gone when it is tried again
table.md, table.csv, figure.png, images.png    the report
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vision_jax.sweeps.points import SEED, Point
from vision_jax.training.files import storage_errors, write_atomically
from vision_jax.training.optimizers import Numbers
from vision_jax.training.origin import Origin
from vision_jax.training.run_folder import differences
from vision_jax.types import UserError

State = Literal["waiting", "running", "done", "failed", "cut off"]

_PATIENCE = 30.0  # seconds in which the trials of a killed sweep end


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        name: of its folder.
        values: what varies, as JSON has it.
        arguments: all of the experiment's, as JSON has them.
        words: that `vision-jax train EXPERIMENT` takes for it.
    """

    name: str
    values: Point
    arguments: Mapping[str, Any]
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """What varies of the compiled program, as text: not the seed, nor the numbers of a TrainConfig."""
        return json.dumps({n: v for n, v in self.values.items() if n != SEED and not _is_number(n)})


def _is_number(name: str) -> bool:
    config, _, field = name.rpartition(".")
    return bool(config) and field in Numbers.__dataclass_fields__


class SweepFolder:
    """The files of one sweep.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> Path:
        return self.path / "sweep.json"

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.py"

    def run_folder(self, trial: Trial) -> Path:
        return self.path / trial.name

    def output(self, trial: Trial) -> Path:
        return self.path / "output" / f"{trial.name}.txt"

    def failure(self, trial: Trial) -> Path:
        return self.path / "failed" / f"{trial.name}.txt"

    def state(self, trial: Trial) -> State:
        """How far a trial is, by its files; one that runs just now is "cut off" or "waiting"."""
        run = self.run_folder(trial)
        if (run / "results.json").is_file():
            return "done"
        if self.failure(trial).is_file():
            return "failed"
        return "cut off" if (run / "experiment.json").is_file() else "waiting"

    def outdated(self, trial: Trial, origin: Origin) -> bool:
        """Whether a trial began with another version of the experiment's file; never of a recipe."""
        copy = self.run_folder(trial) / "experiment.py"
        if origin.file is None or not copy.is_file():
            return False
        return copy.read_bytes() != origin.file.read_bytes()

    def begin(self, origin: Origin, command: str, trials: Sequence[Trial]) -> None:
        """Makes the folder, or adds trials to those that it has.

        Args:
            origin: the experiment's.
            command: that started the sweep.
            trials: all of them.

        Raises:
            UserError: a trial's folder holds a run with other arguments, or nothing can be written.
        """
        known = {trial.name: trial for trial in self.trials()} if self.record.is_file() else {}
        seen: dict[str, Trial] = {}
        for trial in trials:
            twin = seen.setdefault(trial.name.casefold(), trial)  # one folder on a Mac
            if twin is not trial:
                raise UserError(
                    f"two trials would have the same folder {trial.name}: {twin.values}, {trial.values}"
                )
            other = known.get(trial.name)
            if other is not None and other.arguments != trial.arguments:
                changed = "; ".join(differences(other.arguments, trial.arguments))
                raise UserError(
                    f"{self.run_folder(trial)} belongs to a trial with other arguments ({changed}): "
                    "choose another folder with --out, or repeat the command that began this one"
                )
        known |= {trial.name: trial for trial in trials}
        with storage_errors(self.path):
            for below in ("output", "failed"):
                (self.path / below).mkdir(parents=True, exist_ok=True)
            if origin.file is not None:
                write_atomically(self.experiment, origin.file.read_bytes())
            record = {
                "name": origin.name,
                "recipe": origin.recipe,
                "file": str(origin.file) if origin.file is not None else None,
                "command": command,
                "trials": [
                    {
                        "name": trial.name,
                        "values": trial.values,
                        "arguments": trial.arguments,
                        "words": trial.words,
                    }
                    for trial in known.values()
                ],
            }
            write_atomically(self.record, json.dumps(record, indent=1) + "\n")

    def read_record(self) -> dict[str, Any]:
        """sweep.json.

        Raises:
            UserError: this is no sweep's folder.
        """
        try:
            return json.loads(self.record.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{self.path} is not the folder of a sweep: it has no sweep.json") from error
        except ValueError as error:
            raise UserError(f"{self.record} cannot be read: {error}") from error

    def trials(self) -> list[Trial]:
        """The trials of sweep.json, in their order.

        Raises:
            UserError: this is no sweep's folder.
        """
        try:
            return [
                Trial(entry["name"], entry["values"], entry["arguments"], tuple(entry["words"]))
                for entry in self.read_record()["trials"]
            ]
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.record} is not what a sweep wrote: {error}") from error

    def forget(self, trial: Trial) -> None:
        """Removes what a trial left, so that it begins anew."""
        with storage_errors(self.path):
            if self.run_folder(trial).is_dir():
                shutil.rmtree(self.run_folder(trial))
            self.failure(trial).unlink(missing_ok=True)

    def write_failure(self, trial: Trial, text: str) -> None:
        """Records why a trial failed."""
        with storage_errors(self.path):
            write_atomically(self.failure(trial), text.rstrip() + "\n")

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[int]:
        """Keeps other sweeps out of the folder.

        The lock is the open file's: trials inherit it, so that it lasts as long as any of them runs, and no
        longer, however the sweep ends.

        Args:
            say: takes a line where the trials of a killed sweep have not ended yet.

        Yields:
            A file descriptor for processes that work in the folder.

        Raises:
            UserError: another sweep works in it.
        """
        try:
            import fcntl
        except ImportError as error:
            raise UserError("sweeps lock their folder as Linux and macOS do; use WSL on Windows") from error

        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / "lock").open("a+")
        with file:
            deadline = time.monotonic() + _PATIENCE
            waited = False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    file.seek(0)
                    owner = file.read().split()
                    if _alive(owner) or time.monotonic() > deadline:
                        who = f" (process {owner[0]} on {owner[1]})" if len(owner) == 2 else ""
                        raise UserError(
                            f"another sweep{who} works in {self.path}: wait for it, or choose another --out"
                        ) from None
                    if not waited:
                        say("a trial of a killed sweep has not ended yet ...")
                    waited = True
                    time.sleep(0.2)
                except OSError as error:
                    raise UserError(f"cannot lock {self.path}: {error.strerror}") from error
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()} {socket.gethostname()}\n")
            file.flush()
            yield file.fileno()


def _alive(owner: list[str]) -> bool:
    """Whether the process that a lock names may be running; always where it is another machine's."""
    if len(owner) != 2 or not owner[0].isdigit():
        return False
    if owner[1] != socket.gethostname():
        return True
    try:
        os.kill(int(owner[0]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
