"""Time and memory of one case, in this process.

Both sides take turns, so that other load on the machine slows both alike; each round's time is kept.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax

from vision_jax.benchmarks.case import Case
from vision_jax.training.parallel import cores
from vision_jax.types import UserError

SideName = Literal["ours", "theirs"]

_SHORTEST = 0.05  # seconds; what takes less is repeated within a round
_PAUSE = 0.02  # seconds in which the other side's threads end their spinning


def measure_time(case: Case, rounds: int, peers: bool) -> dict[str, Any]:
    """Runs our side and, if wanted, the peer's in turn, after a first call and a warm-up of each.

    Args:
        case: what to run.
        rounds: timed runs of each side.
        peers: whether to run the peer's, where there is one.

    Returns:
        `seconds`: a list a side; `counts`: of each side's last outcome; `first_call`: seconds that our first
        call took, with compiling; `images` a run; `device`.

    Raises:
        UserError: peers are wanted beside an accelerator.
    """
    device = jax.local_devices()[0]
    if peers and device.platform != "cpu":
        raise UserError(
            f"--peers compares on the CPU, and JAX uses {device.device_kind}: set JAX_PLATFORMS=cpu"
        )
    sides = {}
    if peers:
        prepare_peers()
        theirs = case.theirs()
        if theirs is not None:
            sides["theirs"] = theirs
    sides = {"ours": case.ours(sides["theirs"].model if sides else None), **sides}
    first_call = _seconds(sides["ours"].run, 1)
    repeats = {}
    for name, side in sides.items():
        if name != "ours":
            side.run()
        repeats[name] = min(1000, math.ceil(_SHORTEST / max(_seconds(side.run, 1), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(_PAUSE)
            seconds[name].append(_seconds(side.run, repeats[name]))
    return {
        "seconds": seconds,
        "counts": {name: dict(side.count(side.run())) for name, side in sides.items()},
        "first_call": first_call,
        "images": case.images,
        "device": device.device_kind,
    }


def measure_memory(case: Case, name: SideName) -> dict[str, Any]:
    """The most memory that one side takes, in a process that does nothing else.

    On an accelerator, of the device, as JAX reports it. On the CPU, of the process, over what it took before
    the case was built: inputs, weights and all that lives during a run. Linux can forget the peak of
    compiling before it; elsewhere that peak is in the figure.

    Args:
        case: what to run.
        name: which side.

    Returns:
        `bytes` and `how` they were found; `first_call`: seconds that the first call took.
    """
    device = jax.local_devices()[0]
    jax.block_until_ready(jax.numpy.zeros(1) + 1)
    if name == "theirs":
        prepare_peers()
    _trim()
    before = _resident_now()
    side = case.ours() if name == "ours" else case.theirs()
    assert side is not None  # a case without a peer is never measured as one
    first_call = _seconds(side.run, 1)
    statistics = device.memory_stats() if name == "ours" else None
    if statistics and "peak_bytes_in_use" in statistics:
        side.run()
        peak, how = device.memory_stats()["peak_bytes_in_use"], "device, peak_bytes_in_use"
    elif _forget_peak():
        side.run()
        peak, how = _resident_peak() - before, "process, growth of the resident peak while running"
    else:
        side.run()
        peak, how = _resident_peak() - before, "process, growth of ru_maxrss with compiling"
    return {"bytes": max(int(peak), 0), "how": how, "first_call": first_call}


def prepare_peers() -> None:
    """Imports torch, as many threads for it as there are for XLA."""
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(len(cores()))


def _seconds(run: Any, repeats: int) -> float:
    """Mean seconds of a run."""
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def _trim() -> None:
    """Gives freed memory back to the system, where the C library can."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> bool:
    """Starts the resident peak anew; False where it cannot be."""
    _trim()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(name: str) -> int | None:
    """A number of /proc/self/status, in bytes; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), None)


def _resident_now() -> int:
    """The process's resident memory, in bytes; its peak where the system tells only that."""
    now = _status("VmRSS")
    return _resident_peak() if now is None else now


def _resident_peak() -> int:
    """The peak of the process's resident memory, in bytes."""
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
