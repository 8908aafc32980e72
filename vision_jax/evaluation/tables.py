"""Markdown tables of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from vision_jax.types.lettering import display_width, table_cell

_WIDEST = 15
_LISTED = 20


def ratio(part: int | np.integer, whole: int | np.integer) -> float:
    """The quotient of two counts, NaN where there is nothing to count."""
    return float(part) / float(whole) if whole else float("nan")


def score(value: float) -> str:
    """Three decimals, or a dash where undefined."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns also line up as plain text: the first to the left, the others to the right.

    Args:
        header: column names.
        rows: cells, one list a row, as long as the header: any text (`table_cell`).

    Returns:
        The lines, without a final newline.
    """
    cells = [[table_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(display_width(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        spaces = [" " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True)]
        aligned = [
            row[0] + spaces[0],
            *(space + cell for space, cell in zip(spaces[1:], row[1:], strict=True)),
        ]
        return "| " + " | ".join(aligned) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(cells[0]), line(rule), *(line(row) for row in cells[1:])])


def confusion_table(counts: Int[np.ndarray, "r c"], rows: Sequence[str], columns: Sequence[str]) -> str:
    """A confusion matrix as markdown: truth down, prediction across.

    With more than 15 columns, only the 20 commonest confusions are listed.

    Args:
        counts: truth down, prediction across.
        rows: names of the true classes.
        columns: names of the predicted classes.

    Returns:
        The table.
    """
    if len(columns) > _WIDEST:
        wrong = counts * (1 - np.eye(*counts.shape, dtype=counts.dtype))
        worst = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
        pairs = [divmod(int(i), len(columns)) for i in worst if wrong.flat[i] > 0]
        body = [[rows[r], columns[c], str(counts[r, c]), str(counts[r].sum())] for r, c in pairs]
        return markdown_table(["true", "predicted", "count", "of all true"], body)
    body = [[name, *(str(n) for n in row)] for name, row in zip(rows, counts, strict=True)]
    return markdown_table(["true \\ predicted", *columns], body)
