"""How far a run is, read from its folder by another process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_jax.training.metrics import Row, read_metrics


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: of the last row of metrics.csv; 0 before the first.
        steps: in all; 0 where the run does not say so yet.
        metrics: of the last evaluation, by name.
    """

    step: int
    steps: int
    metrics: Row

    @property
    def share(self) -> float:
        """Of the steps that are done, 0..1."""
        return min(self.step / self.steps, 1.0) if self.steps else 0.0


def progress(run: Path) -> Progress:
    """Looks at a run folder, which may not be there yet."""
    try:
        rows = read_metrics(run / "metrics.csv")
    except (OSError, ValueError):
        rows = []  # just being replaced
    step = max((int(row["step"]) for row in rows if "step" in row), default=0)
    judged = next((row for row in reversed(rows) if any(name.startswith("val/") for name in row)), {})
    metrics = {name.removeprefix("val/"): v for name, v in judged.items() if name.startswith("val/")}
    return Progress(step, int(read_json(run / "experiment.json").get("steps") or 0), metrics)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or not whole."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
