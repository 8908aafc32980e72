"""The run folder: all that is needed to understand a run, resume it and repeat it.

experiment.json      recipe or file, arguments, the data's spec, versions, commit, devices, seed, dates
experiment.py        a copy of the experiment's file; absent for a recipe
metrics.csv          the metrics; tensorboard/ the same for TensorBoard; curves.png their plot
train_batch.png      the first batch as the model sees it; predictions.png ground truth beside predictions
*.md, *.png, *.json  the evaluators' tables and figures; evaluations/NAME/ those of other evaluations
per_image*.npz       what each test example contributed to the last evaluation's metrics, for comparing arms
cost.json            the cost of a training step according to XLA, of several players' the largest: operations
                     and bytes on one device
results.json         the metrics of the last evaluation, by its name
checkpoints/         the last two and the best
cache/NAME/          features of a stage `Cache`, in shards; may be deleted once the run has ended
log.txt              the log; log.RANK.txt of other processes
"""

from __future__ import annotations

import io
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vision_jax.training.checkpoints import Checkpoints
from vision_jax.training.files import storage_errors, write_atomically
from vision_jax.training.parallel import Device, cores
from vision_jax.types import Report, UserError

PACKAGES = ("vision_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; it need not exist yet.
        rank: this process's number; others than 0 write nothing but their log.
    """

    def __init__(self, path: Path | str, rank: int = 0) -> None:
        self.path = Path(path)
        self.rank = rank
        self.checkpoints = Checkpoints(self.path / "checkpoints", rank)

    @property
    def record(self) -> Path:
        return self.path / "experiment.json"

    @property
    def log(self) -> Path:
        return self.path / ("log.txt" if self.rank == 0 else f"log.{self.rank}.txt")

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def profile(self) -> Path:
        return self.path / "profile"

    def begin(self, record: Mapping[str, Any], file: Path | None) -> None:
        """Makes the folder of a new run.

        Args:
            record: for experiment.json.
            file: the experiment's file, to be copied.

        Raises:
            UserError: the folder has a run already, or cannot be written.
        """
        if self.metrics.exists() or self.checkpoints.steps():
            raise UserError(f"{self.path} holds a run already; continue it with --resume or choose another")
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if file is not None:
                shutil.copyfile(file, self.path / "experiment.py")
        self.write_record(record)

    def read_record(self) -> dict[str, Any]:
        """Reads experiment.json.

        Raises:
            UserError: it is not a run folder, or one of a version that recorded no spec of the data.
        """
        try:
            record = json.loads(self.record.read_bytes())
        except FileNotFoundError as error:
            raise UserError(f"{self.path} is not a run folder: {self.record.name} is missing") from error
        except ValueError as error:
            raise UserError(f"{self.record} cannot be read: {error}") from error
        if "spec" not in record:
            written = (record.get("versions") or {}).get("vision_jax", "an earlier version")
            raise UserError(
                f"{self.path} was written by vision_jax {written}, whose runs do not record what their data "
                "decide: install that version, or train anew"
            )
        return record

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes experiment.json; values that JSON has no type for are written as their text."""
        self.write_json(self.record.name, record)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file into the folder."""
        if self.rank:
            return
        with storage_errors(self.path / name):
            write_atomically(self.path / name, json.dumps(content, indent=1, default=str) + "\n")

    def write_picture(self, name: str, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Writes a picture, uint8 RGB, as a PNG into the folder, made if it is missing."""
        if self.rank:
            return
        from PIL import Image

        png = io.BytesIO()
        Image.fromarray(picture).save(png, "png")
        with storage_errors(self.path / name):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / name, png.getvalue())

    def write_report(self, report: Report, folder: str = ".") -> None:
        """Writes an evaluation's tables and figures into the folder or one below it."""
        if self.rank:
            return
        with storage_errors(self.path / folder):
            report.write(self.path / folder)


def describe(
    recipe: str | None,
    file: Path | None,
    arguments: Mapping[str, Any] | None,
    seed: int,
    overfit: int,
    steps: int,
    metric: str,
    minimize: bool,
    devices: list[Device],
) -> dict[str, Any]:
    """The content of experiment.json at the start of a run.

    Args:
        recipe: the import path of the experiment's recipe, if it has one.
        file: the experiment's file.
        arguments: of the experiment's function.
        seed, overfit: of the run.
        steps: over all stages.
        metric: the name of the one that decides the best checkpoint.
        minimize: whether a lower value of it is better.
        devices: of the run.
    """
    return {
        "recipe": recipe,
        "file": str(file) if file is not None else None,
        "arguments": dict(arguments or {}),
        "seed": seed,
        "overfit": overfit,
        "steps": steps,
        "metric": metric,
        "minimize": minimize,
        "spec": None,
        "started": now(),
        **machine(devices),
        "commit": commit(file.parent if file is not None else Path()),
        "resumed": [],
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "--") -> list[str]:
    """Describes the differences between the arguments of a run and others, one option each.

    Args:
        old: the run's, as experiment.json has them.
        new: the others, likewise.
        prefix: of an option's name.

    Returns:
        Such as "--train.steps is 900 in the run, not 1200".
    """
    found = []
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name}".replace("_", "-") + f" is {a} in the run, not {b}")
    return found


def machine(devices: list[Device]) -> dict[str, Any]:
    """What rounding depends on: versions, devices and, on CPUs, the number of threads."""
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
    names = [f"{d.platform}:{d.id} {d.device_kind}" for d in devices]
    return {"versions": versions, "devices": names, "threads": len(cores())}


def commit(folder: Path) -> str | None:
    """The git commit of a folder, followed by ` modified` where files differ; None outside a repository."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )

    try:
        head = git("rev-parse", "--verify", "HEAD")
        if head.returncode:
            return None
        return head.stdout.strip() + (" modified" if git("diff-index", "--quiet", "HEAD").returncode else "")
    except (OSError, subprocess.TimeoutExpired):
        return None


def now() -> str:
    """The local time in ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
