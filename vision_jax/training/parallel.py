"""Data parallelism: one step, written from one device's view, on any number of devices.

Each device holds the whole state and a shard of the batch; the step itself says where devices add
(`jax.lax.psum(..., "data")`). Written for `jax.pmap` with unmapped state: the state has no leading
device axis, so checkpoints and the host see plain arrays, and one device is not a special case.

`out_axes=None` states that a value is equal on every device and does not check it: a step
synchronizes all that it returns there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax.training.experiment import Batch
from vision_jax.types import AXIS, UserError

Device = Any  # jax.Device, which type checkers take for a variable


def data_parallel(
    step: Callable[..., Any],
    devices: Sequence[Device] | None = None,
    *,
    out_axes: Any = None,
    donate_argnums: int | tuple[int, ...] = 0,
) -> Callable[..., Any]:
    """Compiles a step (state, batch, key) -> outputs for several devices.

    Args:
        step: from one device's view; it may use the axis "data".
        devices: of the run, other processes' too; all if None.
        out_axes: None for outputs that are equal on all devices, 0 for those sharded like the batch.
        donate_argnums: arguments whose memory may be reused for the outputs; `()` for none.

    Returns:
        The same function, compiled. The arrays of its batch have a leading axis of this process's devices
        (`shard`); its state and key have none.
    """
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=out_axes,
        donate_argnums=donate_argnums,
        devices=devices,
    )


def cores() -> list[int]:
    """The indices of the CPU cores that this process may use; XLA starts a thread for each."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def summed(tree: Any) -> Any:
    """`jax.lax.psum` of arrays over the devices; on one device the arrays, which XLA would copy."""
    return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.psum(tree, AXIS)


def local_devices(count: int | None = None) -> list[Device]:
    """The first `count` of this process's devices, or all of them.

    Raises:
        UserError: there are fewer.
    """
    devices = jax.local_devices()
    if count is None:
        return devices
    if not 1 <= count <= len(devices):
        raise UserError(
            f"devices: {count} requested, this machine has {len(devices)} ({devices[0].platform}); "
            f"choose 1 to {len(devices)}"
        )
    return devices[:count]


def all_devices(count: int | None = None) -> list[Device]:
    """The first `count` devices of every process, or all; those of one process are consecutive.

    Raises:
        UserError: this process has fewer.
    """
    here = len(local_devices(count))
    if jax.process_count() == 1:
        return jax.local_devices()[:here]
    return [d for process in range(jax.process_count()) for d in jax.local_devices(process)[:here]]


def local(devices: Sequence[Device]) -> list[Device]:
    """Those devices that are this process's."""
    return [device for device in devices if device.process_index == jax.process_index()]


def check_batch_size(batch_size: int, devices: int, accumulate: int = 1) -> None:
    """Checks that a batch can be split evenly over devices and microbatches.

    Raises:
        UserError: it cannot; the message names the nearest sizes that can.
    """
    parts = devices * accumulate
    if batch_size < 1 or batch_size % parts:
        below = batch_size // parts * parts
        nearest = f"{below} or {below + parts}" if below > 0 else f"{parts}"
        over = f"{devices} devices" + (f" x {accumulate} microbatches" if accumulate > 1 else "")
        raise UserError(
            f"train.batch_size: {batch_size} examples cannot be split evenly over {over}; "
            f"use {nearest}, or fewer devices"
        )


def shard(batch: Batch, devices: int) -> Batch:
    """Splits the leading axis of every array, numpy [B, ...] -> [devices, B / devices, ...], in order."""
    return jax.tree.map(lambda x: np.reshape(x, (devices, -1, *np.shape(x)[1:])), batch)


def gather(outputs: Any) -> Any:
    """The inverse of `shard`, onto the host: [devices, b, ...] -> numpy [devices * b, ...]."""
    return jax.tree.map(lambda x: np.reshape(x, (-1, *np.shape(x)[2:])), jax.device_get(outputs))


def replicate(tree: Any, devices: Sequence[Device]) -> Any:
    """Puts a copy of every array on every device of this process, with the sharding of a step's outputs.

    A step that starts from arrays of another sharding is compiled twice. The copies do not alias the
    originals: a step that donates its state reuses their memory.
    """
    mesh = Mesh(np.asarray(local(devices)), (AXIS,))
    # Through the host: `may_alias=False` copies numpy arrays, but may alias an array on one of several
    # devices, and copying those on the device would compile a program for each shape.
    return jax.device_put(jax.device_get(tree), NamedSharding(mesh, PartitionSpec()), may_alias=False)
