"""Checkpoints that are complete, or passed over.

Orbax writes the arrays into `checkpoints/STEP/`. When they are final, a record is written beside
them, atomically: the progress of the run (step, stage, the data iterator's position, the best metric so
far) and the SHA-256 of every file. A folder without a sound record was interrupted; one whose files do
not match their hashes was damaged since; both are passed over for the checkpoint before. Files that the
record does not list, such as an operating system's own, are ignored. The last two and the best are kept,
and nothing is deleted before its successor is complete.

Predicting needs the variables alone: there, the optimizer's files are not checked.

Of a run's processes the first alone writes; each reads by itself, without waiting for the others.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vision_jax.training.files import write_atomically
from vision_jax.training.state import Variables
from vision_jax.types import UserError, is_system_name

logger = logging.getLogger("vision_jax")

RECORD = "record.json"
_VARIABLES = "variables/"
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of what a killed save left


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run has come: all of its state that is not an array.

    A checkpoint's record stores the fields under these names.

    Attributes:
        step: steps taken over all stages; a stage without gradients counts as one.
        stage: the index of the current stage; the number of stages when all are done.
        stage_name: its name, for messages.
        stage_step: steps taken in this stage.
        evaluated: the `step` of the last evaluation that was completed.
        best: the best metric so far; None before the first evaluation.
        best_step: the `step` at which it was reached.
        rows: number of rows in metrics.csv.
        sums: by player (`stages.players`), sums over its steps since its last row of metrics.csv, of which
            the next one is the mean (`metrics.Meter`).
        iterator: the training data's position, JSON-able or bytes; None between stages.
    """

    step: int = 0
    stage: int = 0
    stage_name: str = ""
    stage_step: int = 0
    evaluated: int | None = None
    best: float | None = None
    best_step: int | None = None
    rows: int = 0
    sums: dict[str, dict[str, float]] = field(default_factory=dict)
    iterator: Any = None


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: made on the first save.
        rank: this process's number; others than 0 only read.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder.absolute()
        self._rank = rank
        self._manager: Any = None

    def save(self, variables: Variables, optimizer: Any, progress: TrainingProgress) -> None:
        """Writes a checkpoint and, when it is complete, deletes those no longer needed.

        Args:
            variables: parameters and collections, on one or more devices, or numpy.
            optimizer: any tree with at least one array.
            progress: of the run; its `step` names the checkpoint and must be new.

        Raises:
            UserError: the disk is full or read-only; earlier checkpoints are unchanged.
        """
        if self._rank:
            return
        import orbax.checkpoint as ocp

        target = self.folder / str(progress.step)
        try:
            with _quiet_orbax():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._open().save(
                    progress.step,
                    args=ocp.args.Composite(
                        variables=ocp.args.StandardSave(_to_host(variables)),
                        optimizer=ocp.args.StandardSave(_to_host(optimizer)),
                    ),
                    force=True,
                )
            self._write_record(progress, _hashes(target))
        except Exception as error:
            # tensorstore reports the system's errors as ValueErrors that quote the error's number.
            if not isinstance(error, OSError) and "os_error_code" not in str(error):
                raise
            with suppress(OSError):
                self._remove(target)
            kept = [step for step in self.steps() if step != progress.step]
            intact = f"checkpoint {kept[-1]} is intact" if kept else "there is no earlier checkpoint"
            raise UserError(
                f"cannot save the checkpoint of step {progress.step} in {self.folder}: {_reason(error)}; "
                f"{intact}. Free some space or mend the folder, then continue with --resume"
            ) from error
        self._prune(progress)

    def amend(self, progress: TrainingProgress) -> None:
        """Rewrites the record of an existing checkpoint, after its evaluation.

        Raises:
            OSError: the old record is then unchanged.
        """
        if self._rank == 0:
            self._write_record(progress, self._read_record(progress.step)["files"])

    def newest(self, variables_only: bool = False) -> TrainingProgress | None:
        """Finds the newest sound checkpoint; warns about each newer one that is not.

        Args:
            variables_only: True to check the variables alone, as predictions need; False to check all of it,
                as resuming the run needs.

        Returns:
            Its progress; None if there is no checkpoint at all.

        Raises:
            UserError: there are checkpoints and none is sound; the message names a file of each.
        """
        faults = {}
        for step in reversed(self.steps()):
            fault = self.fault(step, variables_only)
            if fault is None:
                return decode(self._read_record(step)["progress"])
            faults[step] = fault
            logger.warning("checkpoint %s is passed over: %s", self.folder / str(step), fault)
        if not faults:
            return None
        why = "; ".join(f"step {step}: {fault}" for step, fault in faults.items())
        what = "its variables cannot be read" if variables_only else "the run cannot be continued"
        advice = "Copy the run folder again"
        usable = [] if variables_only else [step for step in faults if self.fault(step, True) is None]
        if usable:
            new_run = f"start a new run from them with --init {self.folder.parent}"
            advice = f"The variables of step {usable[0]} are sound: {new_run}"
        raise UserError(f"no checkpoint in {self.folder} is sound; {what} ({why}). {advice}")

    def best(self) -> TrainingProgress | None:
        """The checkpoint of the best metric, whose variables are sound.

        Returns:
            Its progress; that of the newest whose variables are sound, with a warning, where the best's are
            not; None if there is no checkpoint at all.

        Raises:
            UserError: there are checkpoints, and the variables of none are sound.
        """
        best = self._best_step()
        if best is not None:
            fault = self.fault(best, variables_only=True)
            if fault is None:
                return decode(self._read_record(best)["progress"])
            logger.warning(
                "the best checkpoint %s is passed over for the last: %s", self.folder / str(best), fault
            )
        return self.newest(variables_only=True)

    def _best_step(self) -> int | None:
        """The best step according to the newest readable record; None if no record says."""
        for step in reversed(self.steps()):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                return decode(self._read_record(step)["progress"]).best_step
        return None

    def steps(self) -> list[int]:
        """The steps that have a folder, sound or not, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(
            int(path.name) for path in self.folder.iterdir() if _is_step(path.name) and path.is_dir()
        )

    def fault(self, step: int, variables_only: bool = False) -> str | None:
        """What is wrong with a checkpoint, as words for a message; None if every file matches its hash.

        Args:
            step: of the checkpoint.
            variables_only: do not check the optimizer's files.
        """
        folder = self.folder / str(step)
        try:
            expected = dict(self._read_record(step)["files"])
        except FileNotFoundError:
            return f"{RECORD} is missing: saving it was interrupted"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{RECORD} cannot be read ({error})"
        for name, digest in sorted(expected.items()):
            if is_system_name(name.rpartition("/")[2]) or (
                variables_only and not name.startswith(_VARIABLES)
            ):
                continue
            try:
                if _hash(folder / name) != digest:
                    return f"{name} is not as it was written"
            except (FileNotFoundError, NotADirectoryError):
                return f"{name} is missing"
            except OSError as error:
                return f"{name} cannot be read ({error.strerror or error})"
        return None

    def restore_variables(self, step: int) -> Variables:
        """Parameters and collections of a sound checkpoint, as numpy arrays."""
        import orbax.checkpoint as ocp

        with _quiet_orbax():
            args = ocp.args.Composite(variables=ocp.args.StandardRestore())
            return self._open().restore(step, args=args)["variables"]

    def restore_optimizer(self, step: int, like: Any) -> Any:
        """The optimizer's arrays of a sound checkpoint.

        Args:
            step: of the checkpoint.
            like: a tree of the same structure, arrays or `jax.eval_shape` results.

        Returns:
            The same tree of numpy arrays.

        Raises:
            UserError: another optimizer wrote the checkpoint.
        """
        import orbax.checkpoint as ocp

        with _quiet_orbax():
            args = ocp.args.Composite(optimizer=ocp.args.StandardRestore(like))
            try:
                return self._open().restore(step, args=args)["optimizer"]
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"{self.folder / str(step)} was written by another optimizer than the experiment's; "
                    "undo the change of train.optimizer or start a new run"
                ) from error

    def discard_after(self, step: int) -> None:
        """Deletes checkpoints after `step`, which a resumed run writes again, and remains of killed saves.

        All other files were put there by others and are kept.
        """
        if self._rank == 0 and self.folder.is_dir():
            for path in list(self.folder.iterdir()):
                later = _is_step(path.name) and int(path.name) > step
                if later or _UNFINISHED in path.name:
                    self._remove(path)

    def _open(self) -> Any:
        """The orbax manager; it reads the folder once, so clean up before the first call."""
        import orbax.checkpoint as ocp

        if self._manager is None:
            alone = ocp.options.MultiprocessingOptions(
                primary_host=self._rank,
                active_processes={self._rank},
                barrier_sync_key_prefix=str(self._rank),
            )
            self._manager = ocp.CheckpointManager(
                self.folder,
                options=ocp.CheckpointManagerOptions(
                    create=False,
                    enable_async_checkpointing=False,
                    save_root_metadata=False,
                    multiprocessing_options=alone,
                ),
                item_handlers={
                    "variables": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
                    "optimizer": ocp.StandardCheckpointHandler(multiprocessing_options=alone),
                },
            )
        return self._manager

    def _prune(self, progress: TrainingProgress) -> None:
        """Deletes all checkpoints but the last two, the best and this one."""
        steps = self.steps()
        keep = {*steps[-2:], progress.step, progress.best_step}
        for step in steps:
            if step not in keep:
                try:
                    with _quiet_orbax():
                        self._open().delete(step)
                except OSError as error:  # a network drive keeps files that another process has open
                    old = self.folder / str(step)
                    logger.warning("cannot delete %s: %s", old, error.strerror or error)

    def _remove(self, path: Path) -> None:
        """Deletes a checkpoint, finished or not."""
        self._manager = None
        for leftover in (path, *self.folder.glob(f"{path.name}{_UNFINISHED}*")):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def _write_record(self, progress: TrainingProgress, hashes: dict[str, str]) -> None:
        body = {"progress": encode(progress), "files": hashes}
        text = json.dumps({**body, "sha256": _digest(body)}, indent=1)
        write_atomically(self.folder / str(progress.step) / RECORD, text)

    def _read_record(self, step: int) -> dict[str, Any]:
        """The record of a checkpoint.

        Raises:
            OSError, ValueError, KeyError: it is missing, damaged, or incomplete.
        """
        record = json.loads((self.folder / str(step) / RECORD).read_bytes())
        if record.pop("sha256") != _digest(record):
            raise ValueError("its own hash does not match")
        return record


def _to_host(tree: Any) -> Any:
    """The same tree of numpy arrays: a checkpoint does not depend on how many devices wrote it."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by relative path of every file but the record and an operating system's own."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths if not is_system_name(path.name)}
    return {name: _hash(path) for name, path in names.items() if name not in (RECORD, f".{RECORD}.tmp")}


def _hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_step(name: str) -> bool:
    """Whether a checkpoint's folder can have that name: "20", not "020" nor digits of other scripts."""
    return name.isdecimal() and name == str(int(name))


def _digest(body: dict[str, Any]) -> str:
    """SHA-256 of a record without its own hash."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def encode(progress: TrainingProgress) -> dict[str, Any]:
    """A run's progress as JSON holds it; an iterator's state in bytes becomes base64.

    Raises:
        TypeError: the iterator's state holds what JSON cannot.
    """
    body = {f.name: getattr(progress, f.name) for f in dataclasses.fields(progress)}
    if isinstance(progress.iterator, bytes):
        body["iterator"] = {"base64": base64.b64encode(progress.iterator).decode()}
    return json.loads(json.dumps(body, default=_plain))


def decode(body: dict[str, Any]) -> TrainingProgress:
    """The inverse of `encode`."""
    iterator = body.get("iterator")
    if isinstance(iterator, dict) and list(iterator) == ["base64"]:
        body = {**body, "iterator": base64.b64decode(iterator["base64"])}
    return TrainingProgress(**body)


def _plain(value: Any) -> Any:
    """Numpy scalars and arrays inside an iterator's state, as Python's numbers and lists."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"the data iterator's state holds a {type(value).__name__}, which JSON cannot")


def _reason(error: Exception) -> str:
    """The system's own words, out of an OSError or a tensorstore message that ends with them."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).partition(" [os_error_code")[0].rpartition(": ")[2]


@contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Orbax logs each failure's traceback from its threads; what matters is raised as well."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
