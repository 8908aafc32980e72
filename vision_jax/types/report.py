"""The results of an evaluation: metrics for the curves, text for the terminal, files for the folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Report:
    """The results of evaluating one checkpoint, or of summarizing a data set.

    Attributes:
        metrics: scalars by name, for metrics.csv and the choice of the best checkpoint; NaN where undefined.
        tables: markdown text by file name (`per_class_ap.md`), printed and saved.
        files: by file name, a function that writes it (a figure, predictions.json) at the path it is given.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)

    def __or__(self, other: Report) -> Report:
        """Both reports in one; of equal names, the other's entry is kept."""
        return Report(
            {**self.metrics, **other.metrics},
            {**self.tables, **other.tables},
            {**self.files, **other.files},
        )

    def write(self, folder: Path) -> None:
        """Writes the tables and files into a folder, made if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.tables.items():
            (folder / name).write_text(text.rstrip() + "\n")
        for name, write in self.files.items():
            write(folder / name)
