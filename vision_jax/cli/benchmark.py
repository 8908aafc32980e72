"""`vision-jax benchmark`: how fast this machine is, alone and beside torchvision."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro

from vision_jax.benchmarks.case import Settings
from vision_jax.benchmarks.run import benchmark, check_peers, chosen, describe_machine
from vision_jax.benchmarks.table import benchmark_report
from vision_jax.training.files import storage_errors, write_atomically
from vision_jax.training.run_folder import now
from vision_jax.types import UserError


@dataclass(frozen=True)
class BenchmarkOptions:
    """Measures time, memory and compiling of operations, networks and the input pipeline; prints a table.

    Run it on a machine that does nothing else.

    Attributes:
        peers: also run torchvision's way to do the same, in turn with ours, on the same inputs and weights.
        only: names of cases, or how they begin (nms, roi_align, mask_rcnn, ...); all if left out.
        rounds: timed runs of each case.
        out: a file NAME.md for the table; NAME.json beside it has every round.
        settings: how large the cases are.
    """

    peers: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    only: tuple[str, ...] = ()
    rounds: int = 10
    out: Path | None = None
    settings: Annotated[Settings, tyro.conf.arg(name="")] = Settings()


def run(words: Sequence[str]) -> int:
    """Measures, prints, and saves after every case.

    Args:
        words: after `vision-jax benchmark`.

    Returns:
        0, or 1 where a case failed.

    Raises:
        UserError: a mistake in the options, or no torch for --peers.
    """
    options = tyro.cli(BenchmarkOptions, prog="vision-jax benchmark", args=list(words))
    _check(options)
    about = {
        "command": shlex.join(["vision-jax", "benchmark", *words]),
        "date": now(),
        "rounds": options.rounds,
        "machine": describe_machine(options.peers),
    }
    rows = []
    names = chosen(options.only)
    for row in benchmark(names, options.settings, options.rounds, options.peers, _say):
        rows.append(row)
        if options.out is not None:
            with storage_errors(options.out):
                write_atomically(options.out, benchmark_report(rows, about))
                content = json.dumps({**about, "cases": rows}, indent=1)
                write_atomically(options.out.with_suffix(".json"), content)
    print(benchmark_report(rows, about), end="")
    return 1 if any("error" in row for row in rows) else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _check(options: BenchmarkOptions) -> None:
    settings = options.settings
    numbers = {"rounds": options.rounds, **{f.name: getattr(settings, f.name) for f in fields(settings)}}
    for name, value in numbers.items():
        if isinstance(value, int) and value < 1:
            raise UserError(f"--{name} {value}: give 1 or more")
    if settings.rois_per_image < 4:
        raise UserError(
            f"--rois-per-image {settings.rois_per_image}: give 4 or more; a quarter of them are objects"
        )
    if options.out is not None and options.out.suffix != ".md":
        raise UserError(f"--out {options.out}: give a file that ends in .md")
    chosen(options.only)
    if options.peers:
        check_peers()
    if options.out is not None:
        with storage_errors(options.out):
            options.out.parent.mkdir(parents=True, exist_ok=True)
