"""The course of a training run: losses, metrics, learning rate over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from vision_jax.types import Picture
from vision_jax.visualization.plots import LINES, new_figure, plain_axes, to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Steps and values, ascending by step.
Series = dict[str, tuple[Float[np.ndarray, " _n"], Float[np.ndarray, " _n"]]]
_RATES = ("learning_rate", "lr")
_NOT_LOSSES = (*_RATES, "grad_norm", "gradient_norm", "param_norm", "update_norm")


def plot_curves(rows: Sequence[Mapping[str, object]]) -> Picture:
    """Plots the rows of metrics.csv.

    Args:
        rows: each with `step` and any of `train/...`, `val/...`, `time/...`; values may be missing, NaN
            or empty. `train/loss` and `val/loss` are the total; `train/<term>` and `val/loss/<term>` its
            terms; other `val/...` are metrics.

    Returns:
        Four panels: the loss with its smoothed course and that of validation, the loss's terms, the
        metrics, and the learning rate with the gradient's norm.
    """
    series = _series(rows)
    figure = new_figure(12.0, 7.4)
    (loss, metrics), (terms, rates) = figure.subplots(2, 2)
    _plot_loss(loss, series)
    _plot_metrics(metrics, series)
    _plot_terms(terms, series)
    _plot_rates(rates, series)
    last = max((float(x[-1]) for x, _ in series.values()), default=1.0)
    for axes in (loss, metrics, terms, rates):
        plain_axes(axes)
        axes.set_xlim(0, last * 1.01 or 1)
        axes.set_xlabel("step")
    return to_picture(figure)


def _series(rows: Sequence[Mapping[str, object]]) -> Series:
    """Steps and values by name, without what is missing or not finite."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        step = _number(row.get("step"))
        if step is None:
            continue
        for name, raw in row.items():
            value = _number(raw)
            if name != "step" and value is not None:
                points.setdefault(name, []).append((step, value))
    return {name: tuple(np.array(sorted(p)).T) for name, p in points.items()}  # type: ignore[misc]


def _number(value: object) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def smooth(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The moving mean over about a twentieth of the run, cut off at its ends; float64."""
    reach = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - reach, 0)
    high = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _plot_loss(axes: Axes, series: Series) -> None:
    """The total loss in training, smoothed, and in validation."""
    axes.set_title("loss", loc="left")
    plotted = []
    if "train/loss" in series:
        x, y = series["train/loss"]
        axes.plot(x, y, color=LINES[0], alpha=0.25, linewidth=1)
        axes.plot(
            x,
            smooth(y),
            _marker(x),
            color=LINES[0],
            linewidth=2,
            label=f"training, smoothed  {smooth(y)[-1]:.3g}",
        )
        plotted.append(y)
    if "val/loss" in series:
        x, y = series["val/loss"]
        axes.plot(x, y, "o-", color=LINES[1], linewidth=2, markersize=4.5, label=f"validation  {y[-1]:.3g}")
        plotted.append(y)
    _scale(axes, plotted)
    _legend(axes, "no loss yet")


def _plot_terms(axes: Axes, series: Series) -> None:
    """Up to 12 terms of the training loss, smoothed; dots where validation has the same term."""
    axes.set_title("loss terms in training, smoothed", loc="left")
    names = [n for n in series if n.startswith("train/") and n != "train/loss"]
    names = [n for n in names if n.rpartition("/")[2] not in _NOT_LOSSES]  # of players: train/NAME/grad_norm
    plotted = []
    for i, name in enumerate(names[:12]):
        x, y = series[name]
        style = ("-", "--")[i // len(LINES)] + _marker(x)
        label = f"{name.removeprefix('train/')}  {smooth(y)[-1]:.3g}"
        axes.plot(x, smooth(y), style, color=LINES[i % len(LINES)], linewidth=1.8, label=label)
        validation = series.get("val/loss/" + name.removeprefix("train/")) or series.get(
            "val/" + name.removeprefix("train/")
        )
        if validation is not None:
            axes.plot(*validation, "o", color=LINES[i % len(LINES)], markersize=4)
        plotted.append(smooth(y))
    _scale(axes, plotted)
    _legend(axes, "one term only")


def _plot_metrics(axes: Axes, series: Series) -> None:
    """The plain metrics; a constant answer's score (`.../majority`) dotted in its metric's color."""
    axes.set_title("validation metrics", loc="left")
    terms = {"val/" + n.removeprefix("train/") for n in series if n.startswith("train/")}
    every = [n for n in series if n.startswith("val/") and n not in terms and not n.startswith("val/loss")]
    plain = [n for n in every if "/" not in n.removeprefix("val/") and "@" not in n] or every
    top = 0.0
    for i, name in enumerate(plain[:10]):
        x, y = series[name]
        color, style = LINES[i % len(LINES)], ("o-", "s--")[i // len(LINES)]
        label = f"{name.removeprefix('val/')}  {y[-1]:.3f}"
        if y.max() > y[-1]:
            label += f"  (best {y.max():.3f} at {x[y.argmax()]:.0f})"
        axes.plot(x, y, style, color=color, linewidth=2, markersize=4.5, label=label)
        top = max(top, y.max())
        if f"{name}/majority" in series:
            axes.axhline(series[f"{name}/majority"][1][-1], color=color, linestyle=":", linewidth=1.5)
    if top and top <= 1:
        axes.set_ylim(0, 1.02 if top > 0.5 else max(top * 1.15, 0.05))
    _legend(axes, "not evaluated yet")


def _plot_rates(axes: Axes, series: Series) -> None:
    """The learning rate, and the gradient's norm on an axis of its own."""
    axes.set_title("learning rate", loc="left")
    for name in _RATES:
        if f"train/{name}" in series:
            x, y = series[f"train/{name}"]
            axes.plot(x, y, _marker(x), color=LINES[0], linewidth=2, label="learning rate")
            axes.set_ylim(bottom=0)
            break
    norm = series.get("train/grad_norm") or series.get("train/gradient_norm")
    if norm is not None:
        right = axes.twinx()
        x, y = norm
        right.plot(x, y, color=LINES[1], alpha=0.25, linewidth=1)
        right.plot(x, smooth(y), _marker(x), color=LINES[1], linewidth=1.6)
        _scale(right, [y])
        right.set_ylabel("gradient's norm", color=LINES[1])
        right.spines[["top", "left"]].set_visible(False)
        axes.set_ylabel("learning rate", color=LINES[0])
        axes.set_title("learning rate and gradient's norm", loc="left")
    elif not axes.lines:
        _legend(axes, "not recorded")


def _scale(axes: Axes, plotted: Sequence[Float[np.ndarray, " _n"]]) -> None:
    """Scales the y axis: logarithmic where values span more than a factor of ten; else from 0, spikes cut."""
    values = np.concatenate([np.zeros(0), *plotted])
    if not values.size:
        return
    low, high = np.quantile(values, [0.01, 0.99])
    if values.min() > 0 and high > 10 * low:
        axes.set_yscale("log")
    elif values.min() >= 0 and high > 0:
        axes.set_ylim(0, high * 1.15)


def _marker(steps: Float[np.ndarray, " n"]) -> str:
    """A dot for lines of one or two points, which are hard to see without."""
    return "o" if len(steps) < 3 else ""


def _legend(axes: Axes, otherwise: str) -> None:
    """A legend, or a text where no line was plotted."""
    if axes.lines:
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, otherwise, transform=axes.transAxes, ha="center", color="#888888")
