"""Several processes as one run: which reads what, which writes, how they agree, and how they stop together.

Each process computes on its own devices, and the step adds over all of them. A batch's example i is
read by process i mod P, so the order of the data does not depend on P. Process 0 writes the run
folder, which all must see (a shared file system); the others write `log.RANK.txt` there, and their part of a
batch whose loss is not finite. What process 0 alone decides or computes is told to the others through the
key-value store of JAX's coordination service: they may wait there for hours, where a collective operation of
devices may time out.

When a process dies, the run ends: its connections close or its heartbeats stop, and the others end with a
message instead of waiting for it. All are then started again with `--resume`.
"""

from __future__ import annotations

import atexit
import itertools
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

HEARTBEAT_SECONDS = 30  # after so long without a heartbeat, a process counts as dead
WAIT_SECONDS = 10  # of one look at the key-value store; between two of them Python handles signals

_meetings = itertools.count()  # all processes call `from_first` and `wait_for_all` in the same order

Tree = TypeVar("Tree")


@contextmanager
def joined(
    address: str | None = None, processes: int | None = None, process: int | None = None
) -> Iterator[None]:
    """A context in which this process is one of several, where it is; enter it before anything is computed.

    Args:
        address: HOST:PORT of process 0, with the two numbers below; "auto" for what JAX detects (Slurm,
            Open MPI, TPU pods, Kubernetes); None for "auto" where the environment names a launcher of several
            processes (`launched_by`), else for one process alone.
        processes: how many there are.
        process: which one this is, from 0.

    Raises:
        UserError: the arguments do not fit each other, or the other processes did not connect.
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
            # A regular exit would wait for the others, which wait for this one.
            atexit.register(_exit_at_once, 2 if isinstance(error, UserError) else 1)
            raise
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def launched_by() -> str | None:
    """The launcher that started this process as one of several, by environment variables; None for none."""
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_NODELIST" in os.environ:
        return "Slurm"
    if int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return "Open MPI"
    if "," in os.environ.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ:
        return "a TPU pod"
    return None


def is_first() -> bool:
    """Whether this process writes the run folder: it is number 0, or the only one."""
    return jax.process_index() == 0


def from_first(work: Callable[[], Any]) -> Any:
    """Calls a function in process 0 alone, and tells its result to all.

    The others wait for as long as it takes.

    Args:
        work: the function; it returns what JSON can hold. Other processes get anything else as its text.

    Returns:
        The result.

    Raises:
        UserError: in every process, the one that `work` raised.
    """
    if jax.process_count() == 1:
        return work()
    key = f"vision_jax/{next(_meetings)}"
    if is_first():
        outcome: dict[str, Any] = {}
        try:
            outcome["result"] = work()
        except UserError as error:
            outcome["error"] = str(error)
        _key_values().key_value_set(key, json.dumps(outcome, default=str))
    outcome = json.loads(_awaited(key))
    if "error" in outcome:
        raise UserError(outcome["error"])
    return outcome["result"]


def wait_for_all() -> None:
    """Returns when every process has called it, however long that takes."""
    if jax.process_count() == 1:
        return
    key = f"vision_jax/{next(_meetings)}"
    _key_values().key_value_set(f"{key}/{jax.process_index()}", "")
    for process in range(jax.process_count()):
        _awaited(f"{key}/{process}")


def _key_values() -> Any:
    """The client of the coordination service, which JAX has no public name for."""
    from jax._src import distributed

    return distributed.global_state.client


def _awaited(key: str) -> str:
    """The value of a key, once a process has set it.

    Raises:
        jax.errors.JaxRuntimeError: a process has ended meanwhile.
    """
    while True:
        try:
            return _key_values().blocking_key_value_get(key, WAIT_SECONDS * 1000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def arrays_from_first(tree: Tree) -> Tree:
    """Broadcasts a tree of arrays of any shapes from process 0.

    Args:
        tree: process 0's arrays; in other processes, arrays of the same shapes and dtypes.

    Returns:
        Process 0's, in every process: numpy, of the same dtypes; the tree itself if there is one process.
    """
    if jax.process_count() == 1:
        return tree
    # The broadcast is a sum, in a wider type than small integers have.
    told = multihost_utils.broadcast_one_to_all(tree)
    return jax.tree.map(lambda new, old: np.asarray(new).astype(old.dtype), told, tree)


def own_shard(batches: BatchIterator) -> BatchIterator:
    """This process's shard of each batch: of P processes, number i gets examples i, i + P, ...

    Args:
        batches: of whole batches. One without a method `shard` is read whole by every process, which then
            drops the examples of the others.
    """
    index, count = jax.process_index(), jax.process_count()
    if count == 1:
        return batches
    shard = getattr(batches, "shard", None)
    return _Shard(batches, index, count) if shard is None else shard(index, count)


def gathered(outputs: Tree, devices: Sequence[Device]) -> Tree:
    """The outputs of all processes for a batch that `own_rows` divided, in its order.

    Args:
        outputs: this process's, numpy [own, ...].
        devices: those that computed them, of all processes.

    Returns:
        numpy [B, ...]; `outputs` itself if the devices are of one process.
    """
    if len(local(devices)) == len(devices):
        return outputs
    return jax.tree.map(np.asarray, multihost_utils.process_allgather(outputs, tiled=True))


def own_rows(batch: Batch, devices: Sequence[Device]) -> Batch:
    """The consecutive examples of a whole batch that this process's devices predict.

    Args:
        batch: arrays [B, ...], B divisible by the number of processes.
        devices: of the run, of all processes.

    Returns:
        Arrays [B / processes, ...].
    """
    number = len({device.process_index for device in devices})
    if number == 1:
        return batch
    size = len(jax.tree.leaves(batch)[0]) // number
    first = jax.process_index() * size
    return jax.tree.map(lambda x: x[first : first + size], batch)


class Agreement:
    """The maximum over the processes of a number that each gives, returned by the next call.

    Returning it one call later means that no process waits for the current step.

    Args:
        devices: of the run.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self._here = len(local(devices))
        self._largest = data_parallel(lambda _, x, __: jax.lax.pmax(x, AXIS), devices, donate_argnums=())
        self._pending: Any = None

    def __call__(self, number: int) -> int:
        """Gives this process's number; all processes must call, in the same order relative to the steps.

        Args:
            number: at least 0, in the range of int32.

        Returns:
            The maximum of those given at the call before; 0 at the first.
        """
        earlier, self._pending = self._pending, self._largest((), np.full(self._here, number, np.int32), ())
        return 0 if earlier is None else int(earlier)


@contextmanager
def lost_processes(run_folder: Path) -> Iterator[None]:
    """Turns a broken connection to another process into a message.

    Where JAX notices it first (as when process 0 dies), JAX ends the process and says that another task
    died.

    Raises:
        UserError: another process has ended; the message says what to do.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        if jax.process_count() == 1 or not any(sign in reason for sign in _SIGNS_OF_LOSS):
            raise
        raise UserError(
            f"another process of this run has ended, and this one cannot continue alone ({reason}). Its own "
            f"log says why; start all processes again with --resume {run_folder}"
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
    """Raises a UserError unless the address and the numbers of a process are complete."""
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


def _exit_at_once(code: int) -> None:
    """Ends the process without the exit handlers that come after."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
