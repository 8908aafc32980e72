"""The pictures of a sweep's report: arms beside each other, their curves, the same images through each."""

from __future__ import annotations

import io
import math
import re
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_jax.sweeps.outcomes import DEFAULT, EVALUATION, Arm
from vision_jax.training.metrics import read_metrics
from vision_jax.types import Picture, stack_pictures
from vision_jax.visualization.canvas import INK, PAPER, first_row, plot_text
from vision_jax.visualization.curves import smooth
from vision_jax.visualization.plots import LINES, new_figure, plain_axes, to_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A training, and its arms by the number in their evaluations' names.
Group = tuple[Arm, list[tuple[float, Arm]]]

_STYLES = ("-", "--", ":", "-.")
_MOST_IMAGES = 8  # arms whose predictions are shown
_LABEL = 30  # characters of an arm's label in a line
_MOST_COLUMNS = 4  # panels beside each other
_LEGEND = 2.4  # inches beside the last panel


def plot_figure(folded: Sequence[Arm], metrics: Sequence[str]) -> bytes:
    """Plots a sweep.

    Args:
        folded: its arms.
        metrics: to show; the first two get a panel.

    Returns:
        A PNG: each metric by arm, every seed a dot (against the number, where evaluations are called
        `name=number`), and the loss over the steps, the band from the least to the largest seed.
    """
    series, trained = _numbered(folded), _trained(folded)
    if series:
        shown = [(metric, name) for name in series for metric in metrics[:2]]
    else:
        shown = [(metric, None) for metric in metrics[:2]]
    count = len(shown) + 1
    columns = min(count, _MOST_COLUMNS)
    rows = math.ceil(count / columns)
    labeled = trained if series else folded
    lines = sum(max(0.3, 0.17 * (1 + _folded_label(arm).count("\n"))) for arm in labeled)
    height = max(3.4, 1.4 + lines)
    # Where each row of dots has its own color, they name the curves too.
    named = not series and len(trained) == len(folded) <= len(LINES)
    figure = new_figure(4.6 * columns + (0 if named else _LEGEND), rows * height)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    panels = panels[:count]
    for i, (axes, (metric, name)) in enumerate(zip(panels, shown, strict=False)):
        axes.set_title(metric, loc="left")
        if name is not None:
            _lines(axes, name, series[name], metric)
        else:
            _dots(axes, folded, metric)
            axes.tick_params(labelleft=i == 0)
    _losses(panels[-1], trained)
    if panels[-1].lines and not named:
        panels[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    for axes in panels:
        plain_axes(axes)
    return _png(to_picture(figure))


def _folded_label(arm: Arm) -> str:
    return "\n".join(textwrap.wrap(arm.label, _LABEL, break_on_hyphens=False, break_long_words=False))


def _look(index: int) -> dict[str, Any]:
    return {"color": LINES[index % len(LINES)], "linestyle": _STYLES[index // len(LINES) % len(_STYLES)]}


def _trained(folded: Sequence[Arm]) -> list[Arm]:
    """One arm for each training, whatever the ways to evaluate it."""
    found: dict[str, Arm] = {}
    for arm in folded:
        training = _training(arm)
        found.setdefault(repr(training.values), training)
    return list(found.values())


def _training(arm: Arm) -> Arm:
    values = {name: value for name, value in arm.values.items() if name != EVALUATION}
    return replace(arm, values=values)


def _numbered(folded: Sequence[Arm]) -> dict[str, list[Group]]:
    """Arms by the numbers in their evaluations' names; empty where not all of these are `name=number`."""
    found: dict[str, dict[str, Group]] = {}
    for arm in folded:
        evaluation = arm.values.get(EVALUATION, DEFAULT)
        if evaluation == DEFAULT:
            continue
        match = re.fullmatch(r"([^=]+)=(-?[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)", evaluation)
        if match is None:
            return {}
        training = _training(arm)
        group = found.setdefault(match[1], {}).setdefault(repr(training.values), (training, []))
        group[1].append((float(match[2]), arm))
    return {name: list(groups.values()) for name, groups in found.items()}


def _dots(axes: Axes, folded: Sequence[Arm], metric: str) -> None:
    """A row for each arm: a dot for each seed, a bar at the mean."""
    for i, arm in enumerate(folded):
        values, color = arm.of(metric), LINES[i % len(LINES)]
        axes.plot(values, [i] * len(values), "o", color=color, alpha=0.45, markersize=5, markeredgewidth=0)
        if values:
            axes.plot([arm.mean(metric)], [i], "|", color=color, markersize=15, markeredgewidth=2.5)
    axes.set_yticks(range(len(folded)), [_folded_label(arm) for arm in folded])
    axes.set_ylim(len(folded) - 0.5, -0.5)


def _lines(axes: Axes, name: str, groups: Sequence[Group], metric: str) -> None:
    """A line for each training: the mean over seeds against an evaluation's number, the range as a band."""
    numbers = sorted({number for _, points in groups for number, _ in points})
    for i, (group, points) in enumerate(groups):
        found = [(number, arm.of(metric)) for number, arm in sorted(points, key=lambda point: point[0])]
        found = [(number, values) for number, values in found if values]
        if not found:
            continue
        x = [number for number, _ in found]
        axes.fill_between(
            x, [min(v) for _, v in found], [max(v) for _, v in found], color=_look(i)["color"], alpha=0.15
        )
        axes.plot(
            x,
            [statistics.fmean(v) for _, v in found],
            marker="o",
            markersize=4,
            label=group.label,
            **_look(i),
        )
    if len(numbers) > 2 and numbers[0] > 0 and numbers[-1] / numbers[0] >= 20:
        axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
    axes.set_xlabel(name)
    if len(groups) > 1:
        axes.legend(frameon=False, fontsize=8)


def _losses(axes: Axes, trained: Sequence[Arm]) -> None:
    """A curve for each training: the smoothed loss, the mean over seeds, the range as a band."""
    largest = 0.0
    for i, arm in enumerate(trained):
        curves = []
        for outcome in arm.outcomes.values():
            rows = [row for row in read_metrics(outcome.run / "metrics.csv") if "train/loss" in row]
            if rows:
                curves.append(
                    (np.array([row["step"] for row in rows]), np.array([row["train/loss"] for row in rows]))
                )
        if not curves:
            continue
        steps = curves[0][0]
        values = np.stack([smooth(np.interp(steps, x, y)) for x, y in curves])
        axes.fill_between(steps, values.min(0), values.max(0), color=_look(i)["color"], alpha=0.15)
        axes.plot(steps, values.mean(0), label=_folded_label(arm), **_look(i))
        late = values[:, len(steps) // 10 :]
        if np.isfinite(late).any():
            largest = max(largest, float(np.nanmax(late)))
    axes.set_title("training loss", loc="left")
    axes.set_xlabel("step")
    if largest > 0 and math.isfinite(largest):
        axes.set_ylim(0, 1.1 * largest)


def plot_images(folded: Sequence[Arm]) -> bytes | None:
    """The same test images through each arm: the first row of its first seed's predictions.png.

    Returns:
        A PNG; None where no arm has such a picture.
    """
    from PIL import Image

    strips = []
    for arm in folded[:_MOST_IMAGES]:
        path = next(iter(arm.outcomes.values())).evaluation_folder / "predictions.png"
        if path.is_file():
            row = first_row(np.asarray(Image.open(path).convert("RGB")))
            strips += [_caption(arm.label, row.shape[1]), row]
    if not strips:
        return None
    return _png(stack_pictures(strips, gap=0))


def _caption(text: str, width: int) -> Picture:
    """A strip 40 pixels high with a line of text."""
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (width, 40), PAPER)
    plot_text(ImageDraw.Draw(strip), (16, 14), text, INK, 18)
    return np.asarray(strip)


def _png(picture: Picture) -> bytes:
    """A picture as a PNG file's content."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, "png")
    return content.getvalue()
