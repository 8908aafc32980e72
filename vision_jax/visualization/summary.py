"""Pictures of a whole split: objects by class and by size, sizes of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from vision_jax.types import Picture
from vision_jax.types.lettering import one_line
from vision_jax.visualization.plots import LINES, new_figure, plain_axes, to_picture

_MOST_BARS = 30


def plot_class_counts(
    counts: Int[np.ndarray, " k"], classes: Sequence[str], what: str = "objects"
) -> Picture:
    """A bar for each class, the commonest on top; of more than 30 classes, the 15 commonest and rarest.

    Args:
        counts: how many of each class.
        classes: K names.
        what: what is counted: objects, images, pixels.

    Returns:
        The chart.
    """
    order = np.argsort(-counts, kind="stable")
    shown = order if len(order) <= _MOST_BARS else np.r_[order[: _MOST_BARS // 2], order[-_MOST_BARS // 2 :]]
    figure = new_figure(6.0, 0.9 + 0.26 * max(3, len(shown)))
    axes = figure.add_subplot()
    bars = axes.barh(range(len(shown)), counts[shown], color=LINES[0], height=0.72)
    axes.bar_label(bars, [f"{int(n):,}" for n in counts[shown]], padding=3, fontsize=8, color="#555555")
    axes.set_yticks(range(len(shown)), [one_line(classes[int(k)], 24) for k in shown], fontsize=9)
    axes.invert_yaxis()
    plain_axes(axes)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12, y=0.02)
    hidden = f", {len(order) - len(shown)} classes between not shown" if len(shown) < len(order) else ""
    axes.set_title(f"{int(counts.sum()):,} {what}{hidden}", loc="left", fontsize=11)
    return to_picture(figure)


def plot_box_sizes(boxes: Float[np.ndarray, "n 4"]) -> Picture:
    """How large the boxes are (the root of their area, with COCO's limits 32 and 96) and of which shape.

    Args:
        boxes: (x1, y1, x2, y2) of a split, in original pixels.

    Returns:
        Two histograms.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)
    figure = new_figure(9.0, 3.2)
    left, right = figure.subplots(1, 2)
    size = np.sqrt(sides.prod(axis=1))
    if len(size):
        low, high = max(1.0, size.min() * 0.9), size.max() * 1.1
        left.hist(size, np.geomspace(low, high, 31), color=LINES[0])
        left.set_xscale("log")
        ticks = [t for t in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096) if low <= t <= high]
        left.set_xticks(ticks, [str(t) for t in ticks], minor=False)
        left.set_xticks([], minor=True)
        groups = np.histogram(size, [0, 32, 96, np.inf])[0] / len(size)
        for limit in (32, 96):
            if low < limit < high:
                left.axvline(limit, color="#555555", linestyle=":", linewidth=1.2)
        names = ("small", "medium", "large")
        fractions = ", ".join(f"{100 * g:.0f} % {name}" for g, name in zip(groups, names, strict=True))
        left.set_title(f"size: {fractions}", loc="left", fontsize=10)
        ratio = sides[:, 0] / sides[:, 1]
        right.hist(np.clip(ratio, 1 / 8, 8), np.geomspace(1 / 8, 8, 31), color=LINES[2])
        right.set_xscale("log")
        right.set_xticks(
            [0.125, 0.25, 0.5, 1, 2, 4, 8], ["\u2264 1:8", "1:4", "1:2", "1:1", "2:1", "4:1", "\u2265 8:1"]
        )
        right.set_xticks([], minor=True)
        right.set_title("shape: width to height", loc="left", fontsize=10)
    else:
        left.set_title("no boxes", loc="left", fontsize=10)
    left.set_xlabel("\u221a(width \u00d7 height), pixels")
    for axes in (left, right):
        plain_axes(axes)
    return to_picture(figure)


def plot_image_sizes(sizes: Int[np.ndarray, "n 2"]) -> Picture:
    """The sizes of a split's images, larger dots where many images have the same.

    Args:
        sizes: (height, width) of each image.

    Returns:
        A chart of height over width.
    """
    figure = new_figure(4.4, 3.6)
    axes = figure.add_subplot()
    if len(sizes):
        distinct, counts = np.unique(sizes, axis=0, return_counts=True)
        area = 12 + 240 * np.sqrt(counts / counts.max()) * (counts > 1)
        axes.scatter(distinct[:, 1], distinct[:, 0], area, color=LINES[0], alpha=0.5, linewidths=0)
        limit = sizes.max() * 1.1
        axes.plot([0, limit], [0, limit], color="#bbbbbb", linewidth=1, linestyle="--")
        axes.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    plain_axes(axes)
    axes.set(xlabel="width", ylabel="height")
    axes.set_title(f"{len(sizes):,} images", loc="left", fontsize=11)
    return to_picture(figure)
