"""Mask R-CNN and torchvision's, in turn, each given the same minutes: box and mask AP on the same scenes.

    python experiments/peers/mask_rcnn_at_equal_time.py --out FOLDER
    python experiments/peers/mask_rcnn_at_equal_time.py --out FOLDER --widths ours

For each seed the command `vision-jax train mask_rcnn` runs as a user's first would, with no compiled program
kept from before. How long its process took until the last step is done is what
torchvision's process then has for its start and its steps. One right after the other, because a machine's
speed may change from hour to hour. torchvision's model has the same backbone, normalization, anchors and
numbers of regions, and gets the same batches, optimizer and schedule, fed full bitmaps. Its pyramid and heads
are those of its own default or, with `--widths ours`, as wide as ours and normalized alike.

Runs that are done are not repeated. Needs torch and torchvision; run it where nothing else runs.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from vision_jax.recipes import mask_rcnn

HERE = Path(__file__).resolve().parent
PEER = HERE / "torchvision_rcnn.py"

METRICS = ("AP50", "mask/AP50", "AP", "mask/AP")


def settings(widths: Literal["default", "ours"]) -> list[str]:
    """The peer's options under which it trains as the recipe does by default."""
    signature = inspect.signature(mask_rcnn)
    of = {name: parameter.default for name, parameter in signature.parameters.items()}
    words = ["--batch-size", str(of["train"].batch_size), "--warmup", str(of["train"].warmup_steps)]
    words += ["--settings.masks", "--settings.rois-per-image", str(of["rois_per_image"])]
    if widths == "ours":
        for name in ("fpn_features", "mask_features", "head_features"):
            words += [f"--settings.{name.replace('_', '-')}", str(of[name])]
        words.append("--settings.fpn-norm")
    return words


def ours(folder: Path, seed: int) -> dict[str, Any]:
    """Trains ours; its metrics and the seconds from the process's start to its last step."""
    words = [
        str(Path(sys.executable).with_name("vision-jax")),
        "train",
        "mask_rcnn",
        "--seed",
        str(seed),
        "--out",
        str(folder),
    ]
    began = time.time()
    with tempfile.TemporaryDirectory() as nothing_compiled:
        run(words, folder, JAX_COMPILATION_CACHE_DIR=nothing_compiled)
    whole = time.time() - began
    steps = [line for line in (folder / "log.txt").read_text().splitlines() if " I step " in line]
    last = next(line for line in reversed(steps) if "  evaluation  " not in line)
    done = datetime.strptime(last[:19], "%Y-%m-%d %H:%M:%S").timestamp()
    metrics = json.loads((folder / "results.json").read_text())["default"]
    taken = int(last.split(" I step ")[1].split("/")[0])
    seconds = done + 1 - began  # the log's stamps are whole seconds: to torchvision the benefit of the doubt
    return {**metrics, "steps": taken, "seconds": seconds, "whole": whole}


def theirs(folder: Path, seed: int, seconds: float, widths: Literal["default", "ours"]) -> dict[str, Any]:
    """Trains torchvision's for so many seconds, counted from the process's start."""
    words = [sys.executable, str(PEER), "train", "--seed", str(seed), "--out", str(folder)]
    words += [*settings(widths), "--minutes", str(seconds / 60), "--began", str(time.time())]
    # Memory in huge pages, which makes its steps faster too.
    run(words, folder, GLIBC_TUNABLES="glibc.malloc.hugetlb=1")
    return {**json.loads((folder / "metrics.json").read_text()), "seconds": seconds}


def run(words: list[str], folder: Path, **environment: str) -> None:
    """Runs a command, its words in a file beside its folder."""
    with open(folder.with_suffix(".log"), "w") as log:
        subprocess.run(words, env={**os.environ, **environment}, stdout=log, stderr=log, check=True)


def compare(
    out: Path, seeds: tuple[int, ...] = (0, 1, 2), widths: Literal["default", "ours"] = "default"
) -> None:
    """Both, in turn, for each seed.

    Args:
        out: folder for runs, their logs and the table.
        seeds: of parameters and data.
        widths: of torchvision's pyramid and heads.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.json"
    rows: dict[str, dict[str, Any]] = json.loads(results.read_text()) if results.exists() else {}
    peer = f"torchvision, {'its own' if widths == 'default' else 'our'} widths"
    for seed in seeds:
        mine = f"vision_jax, seed {seed}"
        for key in (mine, f"{peer}, seed {seed}"):
            if key in rows:
                continue
            folder = out / re.sub(r"\W+", "_", key)
            shutil.rmtree(folder, ignore_errors=True)  # what a run that was cut off left
            at = datetime.now().strftime("%H:%M")
            row = ours(folder, seed) if key == mine else theirs(folder, seed, rows[mine]["seconds"], widths)
            rows[key] = {"at": at, **row}
            results.write_text(json.dumps(rows, indent=1))
            (out / "table.md").write_text(table(rows))
    print(table(rows))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """A row for each run, and each side's mean; of ours also the seconds of the whole command."""
    lines = ["| | began | steps | s to the last | s in all | box AP50 | mask AP50 | box AP | mask AP |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")

    def line(name: str, at: str, steps: str, runs: list[dict[str, Any]]) -> str:
        def mean(what: str) -> float:
            return float(np.mean([row[what] for row in runs]))

        whole = f"{mean('whole'):.0f}" if "whole" in runs[0] else ""
        figures = " | ".join(f"{mean(metric):.3f}" for metric in METRICS)
        return f"| {name} | {at} | {steps} | {mean('seconds'):.0f} | {whole} | {figures} |"

    lines += [line(name, row["at"], row["steps"], [row]) for name, row in rows.items()]
    for side in sorted({name.rpartition(",")[0] for name in rows}, reverse=True):
        lines.append(line(f"{side}, mean", "", "", [r for name, r in rows.items() if name.startswith(side)]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    tyro.cli(compare)
