"""Where trials run. On one machine: a process each, which has its own cores and GPUs to itself.

A cluster's queue replaces `LocalWorkers` if it offers `slots` and `start`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vision_jax.training.files import storage_errors
from vision_jax.training.parallel import cores
from vision_jax.types import UserError


class Job(Protocol):
    """A trial that was started."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs. Negative: the signal that ended it."""
        ...

    def stop(self, now: bool = False) -> None:
        """Asks it to save its state and end; `now`, without."""
        ...


class Workers(Protocol):
    """What runs trials.

    Attributes:
        slots: how many at a time.
    """

    slots: int

    def start(self, slot: int, words: Sequence[str], output: Path) -> Job:
        """Starts `vision-jax WORDS`.

        Args:
            slot: a free one.
            words: of the command.
            output: a file for what it prints.
        """
        ...


@dataclass(frozen=True)
class WorkerResources:
    """The cores and GPUs of the machine that one worker uses.

    Attributes:
        cores: that its threads run on.
        gpus: as CUDA_VISIBLE_DEVICES names them; None where the machine has none.
    """

    cores: tuple[int, ...]
    gpus: tuple[str, ...] | None


def divide(workers: int, threads: int | None) -> list[WorkerResources]:
    """Divides this machine's GPUs and cores.

    Args:
        workers: how many.
        threads: cores of each; as many as there are for each if None.

    Returns:
        The resources of each worker, disjoint.

    Raises:
        UserError: there are not so many.
    """
    if workers < 1:
        raise UserError(f"--workers {workers}: give 1 or more")
    there = cores()
    each = len(there) // workers if threads is None else threads
    if threads is not None and threads < 1:
        raise UserError(f"--threads {threads}: give 1 or more")
    if each < 1 or each * workers > len(there):
        need = f"{workers} workers" + (f" with {threads} threads each" if threads else "")
        raise UserError(f"{need} on {len(there)} cores: give fewer")
    gpus = _gpus()
    if gpus and workers > len(gpus):
        raise UserError(
            f"--workers {workers}, but there are {len(gpus)} GPUs: a worker needs one of its own "
            "(JAX_PLATFORMS=cpu leaves them alone)"
        )
    held = len(gpus) // workers
    return [
        WorkerResources(
            tuple(there[i * each : (i + 1) * each]),
            tuple(gpus[i * held : (i + 1) * held]) if gpus else None,
        )
        for i in range(workers)
    ]


def _gpus() -> list[str]:
    """This machine's GPUs, found without starting JAX here, which would take their memory."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms and not any(name in platforms for name in ("cuda", "gpu")):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.split() if asked.returncode == 0 else []


class LocalWorkers:
    """Processes on this machine.

    Args:
        resources: of each.
        lock: a file descriptor that they inherit.
    """

    def __init__(self, resources: Sequence[WorkerResources], lock: int) -> None:
        self.slots = len(resources)
        self._resources = resources
        self._lock = lock

    def start(self, slot: int, words: Sequence[str], output: Path) -> Job:
        """See `Workers.start`."""
        mine = self._resources[slot]
        environment = dict(os.environ)
        if mine.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine.gpus)
        with storage_errors(output):
            file = output.open("wb")
        with file:
            process = subprocess.Popen(
                [sys.executable, "-m", "vision_jax.cli.trial", ",".join(map(str, mine.cores)), *words],
                stdin=subprocess.PIPE,  # its end tells the trial that the sweep is gone
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=(self._lock,),
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which then asks its trials
            )
        return _LocalJob(process)


class _LocalJob:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self, now: bool = False) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL if now else signal.SIGTERM)
