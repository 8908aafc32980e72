"""Figures of an evaluation, off screen: precision-recall curves, confusion matrices, scores by width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from vision_jax.types.lettering import letter_figure, one_line
from vision_jax.visualization.plots import LINES, new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS = 130  # an inch
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_MANY = len(LINES) * 2


def write_pr_curves(path: Path, precision: Float[np.ndarray, "t r k a m"], classes: Sequence[str]) -> None:
    """Precision over recall: each class at IoU 0.5, and the mean over classes at 0.5 and 0.75.

    Up to 12 classes are named in the legend, best first; of more, the three best and three worst.

    Args:
        path: a .png.
        precision: as in `CocoScores`: IoU 0.5, 0.55, ...; -1 without truth.
        classes: K names.
    """
    recall = np.linspace(0, 1, precision.shape[1])
    at_50, at_75 = precision[0, :, :, 0, 2], precision[5, :, :, 0, 2]
    defined = np.flatnonzero(at_50[0] > -1)
    best_first = defined[np.argsort(-at_50[:, defined].mean(axis=0), kind="stable")]
    named = best_first if len(best_first) <= _MANY else np.r_[best_first[:3], best_first[-3:]]

    figure = new_figure(7.2, 5.0, dots=_DOTS)
    axes = figure.add_subplot()
    for k in np.setdiff1d(best_first, named):
        axes.plot(recall, at_50[:, k], color="#c4c4c4", linewidth=0.7)
    for rank, k in enumerate(named):
        axes.plot(
            recall,
            at_50[:, k],
            color=LINES[rank % len(LINES)],
            linestyle=_DASHES[rank // len(LINES)],
            linewidth=1.6,
            label=f"{_short(classes[int(k)])}  {at_50[:, k].mean():.3f}",
        )
    if len(defined):
        for values, style, name in ((at_50, "-", "mean, IoU 0.5"), (at_75, "--", "mean, IoU 0.75")):
            mean = values[:, defined].mean(axis=1)
            axes.plot(recall, mean, "k", linestyle=style, linewidth=2.4, label=f"{name}  {mean.mean():.3f}")
        axes.legend(title="AP", loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "no objects to find", ha="center", color="#666666")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.005), ylim=(0, 1.02))
    others = "; gray: the other classes" if len(named) < len(best_first) else ""
    axes.set_title(f"Precision over recall, classes at IoU 0.5{others}", loc="left", fontsize=11)
    plain_axes(axes)
    _save(figure, path)


def write_confusion(
    path: Path,
    counts: Int[np.ndarray, "r c"],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    background: bool = False,
) -> None:
    """A confusion matrix: the color is the fraction of the true class, the number is the count.

    Args:
        path: a .png.
        counts: truth down, prediction across.
        rows: names of true classes.
        columns: names of predicted classes.
        title: set above.
        background: the last row counts false detections; its color is their fraction of a class's detections.
    """
    total = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape).copy()
    if background:
        total[-1] = counts.sum(axis=0)
    fraction = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    few = len(columns) <= 24
    cell = min(0.85, max(0.5, 6 / len(columns))) if few else 0.17
    figure = new_figure(2.4 + cell * len(columns), 1.9 + cell * len(rows), dots=_DOTS)
    axes = figure.add_subplot()
    picture = axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    font = 9 if few else 6
    axes.set_xticks(
        range(len(columns)), [_short(c) for c in columns], rotation=90 if not few else 40, fontsize=font
    )
    axes.set_yticks(range(len(rows)), [_short(r) for r in rows], fontsize=font)
    if few:
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
            tick.set_rotation_mode("anchor")
        for r, c in np.argwhere(counts > 0):
            axes.text(
                c, r, _count(int(counts[r, c])), ha="center", va="center", fontsize=min(9, 15 * cell),
                color="white" if fraction[r, c] > 0.55 else "#222222",
            )  # fmt: skip
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#eeeeee", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, loc="left", fontsize=11)
    bar = figure.colorbar(picture, ax=axes, fraction=0.03, pad=0.02, aspect=30)
    of = "true class; background: of the predicted one" if background else "true class"
    bar.set_label(f"fraction of the {of}", fontsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    _save(figure, path)


def write_by_width(
    path: Path, widths: Sequence[int], scores: Mapping[str, Sequence[float]], title: str
) -> None:
    """Scores over the width of a band, on an axis of doublings.

    Args:
        path: a .png.
        widths: in pixels.
        scores: by name, one for each width, 0..1; NaN leaves a gap.
        title: set above.
    """
    figure = new_figure(5.6, 3.8, dots=_DOTS)
    axes = figure.add_subplot()
    for (name, values), color, marker in zip(scores.items(), LINES, "os^Dv<", strict=False):
        axes.plot(widths, values, color=color, marker=marker, markersize=4, linewidth=1.8, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="width of the band (pixels)", ylabel="score", ylim=(0, 1.02))
    axes.legend(loc="best", frameon=False, fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    plain_axes(axes)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, its texts in letters that a font has."""
    letter_figure(figure)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.12)


def _count(n: int) -> str:
    """A count in at most four characters: 9999, 10k, 1.0M."""
    if n < 10_000:
        return str(n)
    return f"{n / 1e6:.1f}M" if n >= 999_500 else f"{n / 1e3:.0f}k"


def _short(name: str) -> str:
    """A class's name beside a line or a row; matplotlib leaves out of legends what begins with "_"."""
    short = one_line(name, 18)
    return f" {short}" if short.startswith("_") else short
