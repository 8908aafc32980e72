"""How far a run is, read from its folder by another process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_jax.training.metrics import read_metrics


@dataclass(frozen=True)
class TrialProgress:
    """How far a run is.

    Attributes:
        step: of the last row of metrics.csv; 0 before the first.
        steps: in all; 0 where the run does not say so yet.
        metric: name of the metric that decides the best checkpoint; empty where the run does not say so yet.
        metrics: the last value of each, by name; those of named evaluations begin with `NAME/`.
        compiled: whether the first step is under way, so that its program is kept.
    """

    step: int = 0
    steps: int = 0
    metric: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    compiled: bool = False

    @property
    def fraction(self) -> float:
        """The fraction of the steps that is done, 0..1."""
        return min(self.step / self.steps, 1.0) if self.steps else 0.0


class Watcher:
    """Looks at run folders, and reads again only what has changed."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[int, int] | None, TrialProgress]] = {}

    def __call__(self, run: Path) -> TrialProgress:
        """How far a run is, whose folder may not be there yet."""
        stamp = _stamp(run / "metrics.csv")
        compiled = (run / "cost.json").is_file()
        before = self._seen.get(run)
        if before is None or before[0] != stamp or before[1].compiled != compiled:
            self._seen[run] = stamp, _read(run, compiled)
        return self._seen[run][1]


def _stamp(path: Path) -> tuple[int, int] | None:
    """The file's time of modification in ns and its size in bytes; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _read(run: Path, compiled: bool) -> TrialProgress:
    try:
        rows = read_metrics(run / "metrics.csv")
    except (OSError, ValueError):
        rows = []  # just being replaced
    step = max((int(row["step"]) for row in rows if "step" in row), default=0)
    metrics = {n.removeprefix("val/"): v for row in rows for n, v in row.items() if n.startswith("val/")}
    record = read_json_object(run / "experiment.json")
    return TrialProgress(
        step, int(record.get("steps") or 0), str(record.get("metric") or ""), metrics, compiled
    )


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or not whole."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
