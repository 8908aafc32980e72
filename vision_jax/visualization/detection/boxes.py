"""Boxes with their names, plotted on an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageDraw

from vision_jax.types import Picture
from vision_jax.visualization.canvas import (
    Color,
    class_colors,
    darker,
    fit_text,
    ink_on,
    plot_text,
    resize_picture,
    rgb,
    text_width,
)

STRONG = 0.5
WEAKEST = 0.1
MOST_WEAK = 10
_TEXT = 12


def plot_boxes(
    image: Picture,
    boxes: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"] | None,
    classes: Sequence[str],
    dashed: Bool[np.ndarray, " n"] | None = None,
    scale: float = 1.0,
    colors: UInt8[np.ndarray, "n 3"] | None = None,
    unboxed: Bool[np.ndarray, " n"] | None = None,
) -> Picture:
    """Plots boxes with their classes on an image.

    Boxes with a score below 0.5 are thin and unnamed, and only the best ten of them from 0.1 on are
    plotted. A name that finds no free position beside its box is left out; the color still tells the class.

    Args:
        image: the picture.
        boxes: (x1, y1, x2, y2) in its pixels.
        labels: 0..K-1.
        scores: 0..1; None for truth, which is plotted solid.
        classes: K names.
        dashed: boxes plotted dashed and unnamed: crowds, difficult objects.
        scale: enlarges the image first, so that lines and text stay fine.
        colors: of each box; None: by class.
        unboxed: named boxes of which only the name is plotted.

    Returns:
        A new picture, `scale` times as large.
    """
    page = Image.fromarray(image if scale == 1 else resize_picture(image, scale))
    pen = ImageDraw.Draw(page)
    colors = class_colors(len(classes))[labels] if colors is None else colors
    unboxed = np.zeros(len(boxes), bool) if unboxed is None else unboxed
    dashed = np.zeros(len(boxes), bool) if dashed is None else dashed
    strong = ~dashed if scores is None else ~dashed & (scores >= STRONG)
    order = np.argsort(-scores if scores is not None else _areas(boxes), kind="stable")
    weak = [] if scores is None else [i for i in order if WEAKEST <= scores[i] < STRONG and not dashed[i]]
    scaled = boxes * scale

    boxed = [i for i in order[::-1] if strong[i] and not unboxed[i]]
    for i in [*weak[:MOST_WEAK], *np.flatnonzero(dashed), *boxed]:
        style = "solid" if strong[i] else "dash" if dashed[i] else "thin"
        _rectangle(pen, scaled[i], rgb(colors[i]), style)
    placed: list[tuple[int, int, int, int]] = []
    for i in (int(i) for i in order if strong[i]):
        name = classes[int(labels[i])]
        sure = "" if scores is None else f" {_score(float(scores[i]))}"
        text = fit_text(name, _TEXT, page.size[0] // 2 - text_width(sure, _TEXT)) + sure
        tag(pen, page.size, scaled[i], text, rgb(colors[i]), placed)
    return np.asarray(page)


def _rectangle(pen: ImageDraw.ImageDraw, box: Float[np.ndarray, "4"], color: Color, style: str) -> None:
    """The outline of a box (x1, y1, x2, y2) as "solid" with a darker edge, "thin", or "dash"."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
    if style == "solid":
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=darker(color), width=1)
        pen.rectangle((x1, y1, x2, y2), outline=color, width=2)
    elif style == "thin":
        pen.rectangle((x1, y1, x2, y2), outline=color, width=1)
    else:
        for start in range(0, max(x2 - x1, y2 - y1), 10):
            across, down = min(x1 + start + 5, x2), min(y1 + start + 5, y2)
            for y in (y1, y2):
                if x1 + start < x2:
                    pen.line((x1 + start, y, across, y), fill=color, width=2)
            for x in (x1, x2):
                if y1 + start < y2:
                    pen.line((x, y1 + start, x, down), fill=color, width=2)


def tag(
    pen: ImageDraw.ImageDraw,
    page: tuple[int, int],
    box: Float[np.ndarray, "4"],
    text: str,
    color: Color,
    placed: list[tuple[int, int, int, int]],
) -> None:
    """Writes a name at the first free position: over the box, under it, inside it, to its right end.

    Args:
        pen: of the picture.
        page: (width, height) of the picture.
        box: (x1, y1, x2, y2), in its pixels.
        text: one line; not written where no position is free.
        color: behind the text.
        placed: rectangles (x1, y1, x2, y2) taken before, to which this one is added.
    """
    width, height = text_width(text, _TEXT) + 6, _TEXT + 4
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    positions = (
        (x1 - 1, y1 - height), (x1 - 1, y2), (x2 - width + 1, y1 - height), (x2 - width + 1, y2),
        (x1, y1), (x2 - width, y2 - height), (x2 - width, y1), (x1, y2 - height),
    )  # fmt: skip
    for x, y in positions:
        rectangle = (x, y, x + width, y + height)
        inside = x >= -1 and y >= 0 and rectangle[2] <= page[0] + 1 and rectangle[3] <= page[1]
        if inside and not any(_intersect(rectangle, other) for other in placed):
            placed.append(rectangle)
            pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
            plot_text(pen, (x + 3, y + 1), text, ink_on(color), _TEXT)
            return


def _intersect(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two rectangles (x1, y1, x2, y2) have pixels in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Areas of boxes (x1, y1, x2, y2), in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _score(value: float) -> str:
    """Two digits, never rounded up to 1."""
    return f"{np.floor(100 * value) / 100:.2f}".lstrip("0") if value < 1 else "1.0"
