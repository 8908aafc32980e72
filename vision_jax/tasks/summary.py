"""The parts of `vision-jax show` that all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vision_jax.types import stack_pictures
from vision_jax.types.lettering import table_cell
from vision_jax.visualization import save_png


def counts_table(classes: Sequence[str], columns: Mapping[str, Sequence[int]], what: str) -> str:
    """A markdown table of counts, a row for each class and one for all.

    Args:
        classes: K names.
        columns: K counts for each split.
        what: what is counted, in the plural.
    """
    rows = [
        "| class | " + " | ".join(table_cell(f"{what}, {name}") for name in columns) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for k, name in enumerate(classes):
        counts = " | ".join(f"{int(column[k])}" for column in columns.values())
        rows.append(f"| {table_cell(name)} | {counts} |")
    rows.append("| all | " + " | ".join(f"{int(sum(column))}" for column in columns.values()) + " |")
    return "\n".join(rows)


def picture(parts: Sequence[np.ndarray]) -> Callable[[Path], None]:
    """A function that stacks pictures, uint8 RGB, vertically and writes them into a PNG file."""
    return lambda path: save_png(path, stack_pictures(parts))
