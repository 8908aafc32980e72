"""Several processes as one run: who reads what, who writes, how they agree, and how they stop together.

Each process computes on its own devices, and the step adds over all of them. A batch's example i is
read by process i mod P, so the order of the data does not depend on P. Process 0 writes the run
folder, which all must see (a shared file system); the others write `log.RANK.txt` there, and nothing else
unless a batch of theirs goes wrong. What one process alone decides, it tells the others.

A process that dies takes the run with it: its connections close, or its heartbeats stay away, and the
others end with a message instead of waiting for it. All are then started again with `--resume`.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from vision_jax.training.experiment import Batch, BatchIterator
from vision_jax.training.parallel import Device, data_parallel, local
from vision_jax.training.stopping import Stopped
from vision_jax.types import AXIS, UserError

logger = logging.getLogger("vision_jax")

HEARTBEAT_SECONDS = 30  # after so long without a sign, a process counts as dead

Tree = TypeVar("Tree")


@contextmanager
def joined(
    address: str | None = None, processes: int | None = None, process: int | None = None
) -> Iterator[None]:
    """Makes this process one of several while it is open, if it is; before anything is computed.

    Args:
        address: HOST:PORT of process 0, with the two numbers; "auto" for what JAX finds out by itself
            (Slurm, Open MPI, TPU pods, Kubernetes); None for that where the environment tells that there
            are several processes (`launched_by`), else for one process alone.
        processes: how many there are.
        process: which one this is, from 0.

    Raises:
        UserError: the arguments do not go together, or the others did not come.
    """
    if address is None and (processes is not None or process is not None):
        raise UserError("--processes and --process go with --distributed HOST:PORT")
    launcher = launched_by() if address is None else None
    if address is None and launcher is None:
        yield
        return
    explicit = address if address not in (None, "auto") else None
    if explicit is not None:
        _check_address(explicit, processes, process)
    try:
        jax.distributed.initialize(
            explicit,
            processes,
            process,
            cluster_detection_method="deactivate" if explicit is not None else None,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        how = launcher or f"--distributed {address}"
        raise UserError(f"cannot start as one of several processes ({how}): {error}") from error
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Stopped):
            # Leaving the common way would wait for the others, who are waiting for this one.
            atexit.register(_leave_at_once, 2 if isinstance(error, UserError) else 1)
            raise
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def launched_by() -> str | None:
    """What started this process as one of several, by its environment; None where nothing says so."""
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_NODELIST" in os.environ:
        return "Slurm"
    if int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "Open MPI"
    if "," in os.environ.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ:
        return "a TPU pod"
    return None


def is_first() -> bool:
    """Whether this process is the one that writes, by itself or as number 0."""
    return jax.process_index() == 0


def from_first(work: Callable[[], Any]) -> Any:
    """Does something in process 0 alone, and gives its result to all.

    Args:
        work: returns what JSON can hold; other processes get anything else as its text.

    Returns:
        What it returned.

    Raises:
        UserError: what it raised, in every process.
    """
    if jax.process_count() == 1:
        return work()
    outcome: dict[str, Any] = {}
    if is_first():
        try:
            outcome["result"] = work()
        except UserError as error:
            outcome["error"] = str(error)
    text = np.frombuffer(json.dumps(outcome, default=str).encode(), np.uint8)
    size = int(arrays_from_first(np.int32(text.size)))
    text = arrays_from_first(text if is_first() else np.zeros(size, np.uint8))
    outcome = json.loads(text.tobytes())
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["result"]


def arrays_from_first(tree: Tree) -> Tree:
    """Arrays as process 0 has them; the others' must be of the same shapes."""
    if jax.process_count() == 1:
        return tree
    # They are added up on the way, in a wider type than small integers have.
    told = multihost_utils.broadcast_one_to_all(tree)
    return jax.tree.map(lambda new, old: np.asarray(new).astype(old.dtype), told, tree)


def own_shard(batches: BatchIterator) -> BatchIterator:
    """This process's examples of each batch: every P-th, from its own number on.

    Args:
        batches: of whole batches. One without a method `shard` is read whole by every process, which then
            leaves out what is the others'.
    """
    index, count = jax.process_index(), jax.process_count()
    if count == 1:
        return batches
    shard = getattr(batches, "shard", None)
    return _Shard(batches, index, count) if shard is None else shard(index, count)


def gathered(outputs: Tree, devices: Sequence[Device]) -> Tree:
    """The outputs of all processes for a batch that `own_rows` divided, in its order.

    Args:
        outputs: numpy, this process's.
        devices: what they were computed on; of one process alone there is nothing to gather.
    """
    if len(local(devices)) == len(devices):
        return outputs
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(outputs, tiled=True))


def own_rows(batch: Batch, devices: Sequence[Device]) -> Batch:
    """The consecutive examples of a whole batch that this process's devices predict."""
    number = len({device.process_index for device in devices})
    if number == 1:
        return batch
    size = len(jax.tree.leaves(batch)[0]) // number
    first = jax.process_index() * size
    return jax.tree.map(lambda x: x[first : first + size], batch)


class Agreement:
    """The largest number that any process said, known to all of them at the next call.

    Reading it one call later means that nobody waits for the step in hand.

    Args:
        devices: of the run.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self._here = len(local(devices))
        self._largest = data_parallel(lambda _, x, __: jax.lax.pmax(x, AXIS), devices, donate_argnums=())
        self._pending: Any = None

    def __call__(self, number: int) -> int:
        """Says a number; all processes must call, in the same order among the steps.

        Returns:
            The largest of those said at the call before; 0 at the first.
        """
        earlier, self._pending = self._pending, self._largest((), np.full(self._here, number, np.int32), ())
        return 0 if earlier is None else int(earlier)


@contextmanager
def lost_processes(run_folder: Path) -> Iterator[None]:
    """Turns a broken connection to another process into a message for people.

    Where JAX's own watch is faster than this (it is when process 0 dies), it ends the process and says
    that another task died.

    Raises:
        UserError: naming what to do.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        if jax.process_count() == 1 or not any(sign in reason for sign in _SIGNS_OF_LOSS):
            raise
        raise UserError(
            f"another process of this run has ended, and this one cannot go on alone ({reason}). Its own log "
            f"says why; start all processes again with --resume {run_folder}"
        ) from error


_SIGNS_OF_LOSS = ("Gloo", "gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED")


class _Shard:
    """Every `count`-th example of whole batches."""

    def __init__(self, batches: BatchIterator, index: int, count: int) -> None:
        self._batches = batches
        self._index = index
        self._count = count

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return jax.tree.map(lambda x: x[self._index :: self._count], next(self._batches))

    def get_state(self) -> Any:
        return self._batches.get_state()

    def set_state(self, state: Any) -> None:
        self._batches.set_state(state)

    def close(self) -> None:
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()


def _check_address(address: str, processes: int | None, process: int | None) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(
            f"--distributed {address}: give HOST:PORT of process 0, such as 10.0.0.1:1234, or auto"
        )
    if processes is None or process is None or not 0 <= process < processes:
        raise UserError(
            f"--distributed {address} needs --processes N and --process I from 0 to N - 1, "
            f"not {processes} and {process}"
        )


def _leave_at_once(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
