"""All chosen cases, one after the other, each measurement in a process of its own.

Processes of their own make the figures independent of what ran before: compiled programs, memory kept for
later, threads. They share an empty folder of compiled programs, so that a case's first process compiles and
its second finds the programs there.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from vision_jax.benchmarks.case import Settings
from vision_jax.benchmarks.cases import CASES
from vision_jax.benchmarks.table import Measurement
from vision_jax.training.parallel import cores
from vision_jax.types import UserError


def chosen(only: Sequence[str]) -> list[str]:
    """The cases that words mean, in the order of `CASES`.

    Args:
        only: names of cases, or how they begin: `nms` means `nms_spread` and its like. All cases if empty.

    Raises:
        UserError: a word means no case.
    """
    for word in only:
        if not any(_means(word, name) for name in CASES):
            near = difflib.get_close_matches(word, CASES, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"--only {word}: there is no such case.{hint} Cases: {', '.join(CASES)}")
    return [name for name in CASES if not only or any(_means(word, name) for word in only)]


def _means(word: str, name: str) -> bool:
    return name == word or name.startswith(word + "_")


def check_peers() -> None:
    """Checks that torch and torchvision are installed, without importing them.

    Raises:
        UserError: saying how to get them.
    """
    missing = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--peers needs {' and '.join(missing)}: uv pip install torch torchvision "
            "--index-url https://download.pytorch.org/whl/cpu, or leave --peers out"
        )


def benchmark(
    names: Iterable[str], settings: Settings, rounds: int, peers: bool, say: Callable[[str], None]
) -> Iterator[Measurement]:
    """Measures cases.

    Args:
        names: of `CASES`.
        settings: how large they are.
        rounds: timed runs of each side.
        peers: whether to run the peers' side too.
        say: takes a line of progress.

    Yields:
        A measurement of each case: `name`, what `measure_time` returns, `first_call` as {"cold", "warm"},
        `memory` as {"ours", "theirs"} of bytes, `memory_how`; or `name` and `error`.

    Raises:
        UserError: settings with which a case cannot be, or the data cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="vision_jax_benchmark_") as folder:
        for name in names:
            say(f"{name} ...")
            yield _measure(name, settings, rounds, peers, Path(folder))


def _measure(name: str, settings: Settings, rounds: int, peers: bool, folder: Path) -> Measurement:
    """Time of one case, and memory of each side, in a process each."""
    order = {"case": name, "settings": asdict(settings)}
    row = {"name": name, **_child({**order, "what": "time", "rounds": rounds, "peers": peers}, folder)}
    if "error" in row:
        return row
    memory = _child({**order, "what": "ours"}, folder)
    if "error" in memory:
        return {"name": name, **memory}
    row["first_call"] = {"cold": row["first_call"], "warm": memory["first_call"]}
    row["memory"], row["memory_how"] = {"ours": memory["bytes"]}, memory["how"]
    if "theirs" in row["seconds"]:
        memory = _child({**order, "what": "theirs"}, folder)
        if "error" in memory:
            return {"name": name, **memory}
        row["memory"]["theirs"] = memory["bytes"]
    return row


def _child(order: Measurement, folder: Path) -> Measurement:
    """What a process of its own measured; `error` where it died."""
    out = folder / "measured.json"
    out.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "vision_jax.benchmarks.child"],
        input=json.dumps({**order, "out": str(out)}),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return {"error": f"ended with code {done.returncode}: {last[0]}"}
    measured = json.loads(out.read_text())
    if "error" in measured:
        raise UserError(f"{order['case']}: {measured['error']}")
    return measured


def describe_machine(peers: bool) -> dict[str, Any]:
    """What the measurements were made on: the machine's name, processor, cores and memory, and versions."""
    packages = ["vision_jax", "jax", "jaxlib", *(["torch", "torchvision"] if peers else [])]
    return {
        "name": platform.node(),
        "processor": _processor(),
        "cores": len(cores()),
        "memory": _memory(),
        "system": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in packages},
        },
    }


def _memory() -> int | None:
    """Bytes, where the system tells."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
