"""Pictures of boxes: a batch as the model sees it, and truth beside prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw

from vision_jax.types import DetectionBatch, Detections
from vision_jax.visualization.canvas import (
    Cell,
    Color,
    Picture,
    class_colors,
    display_scale,
    draw_grid,
    font,
    ink_on,
    mark_padding,
    resize,
    text_width,
)

STRONG = 0.5
_WEAKEST = 0.1
_MOST_WEAK = 10
_TEXT = 12


def draw_boxes(
    image: Picture,
    boxes: Float[np.ndarray, "n 4"],
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"] | None,
    classes: Sequence[str],
    dashed: Bool[np.ndarray, " n"] | None = None,
    scale: float = 1.0,
) -> Picture:
    """Draws boxes with their classes on an image.

    Boxes with a score below 0.5 are thin and unnamed, and only the best ten of them from 0.1 on are
    drawn. A name that finds no free place beside its box is left out; the colour still tells the class.

    Args:
        image: the picture.
        boxes: (x1, y1, x2, y2) in its pixels.
        labels: 0..K-1.
        scores: 0..1; None for truth, which is drawn solid.
        classes: K names.
        dashed: boxes to draw dashed and unnamed: crowds, difficult objects.
        scale: enlarges the image first, so that lines and text stay fine.

    Returns:
        A new picture, `scale` times as large.
    """
    page = Image.fromarray(image if scale == 1 else resize(image, scale))
    pen = ImageDraw.Draw(page)
    colors = class_colors(len(classes))
    dashed = np.zeros(len(boxes), bool) if dashed is None else dashed
    strong = ~dashed if scores is None else ~dashed & (scores >= STRONG)
    order = np.argsort(-scores if scores is not None else _areas(boxes), kind="stable")
    weak = [] if scores is None else [i for i in order if _WEAKEST <= scores[i] < STRONG and not dashed[i]]
    drawn = boxes * scale

    for i in [*weak[:_MOST_WEAK], *np.flatnonzero(dashed), *[i for i in order[::-1] if strong[i]]]:
        _rectangle(
            pen, drawn[i], _rgb(colors[labels[i]]), "solid" if strong[i] else "dash" if dashed[i] else "thin"
        )
    placed: list[tuple[int, int, int, int]] = []
    for i in (int(i) for i in order if strong[i]):
        name = classes[int(labels[i])]
        text = name if scores is None else f"{name} {_score(float(scores[i]))}"
        _tag(pen, page.size, drawn[i], text, _rgb(colors[labels[i]]), placed)
    return np.asarray(page)


def draw_detection_batch(batch: DetectionBatch, classes: Sequence[str], most: int = 8) -> Picture:
    """The batch as the model sees it: the whole canvas, padding hatched, with the true boxes.

    Args:
        batch: images and truth; invalid examples are left out.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a legend.
    """
    cells, seen = [], set()
    for b in np.flatnonzero(np.asarray(batch.example_valid))[:most].tolist():
        image, size = np.asarray(batch.image[b]), np.asarray(batch.size[b])
        boxes, labels, ignore = _truth(batch, b)
        seen.update(labels.tolist())
        picture = draw_boxes(
            mark_padding(image, int(size[0]), int(size[1])),
            boxes, labels, None, classes, ignore, display_scale(*image.shape[:2]),
        )  # fmt: skip
        caption = f"id {batch.id[b]}: {size[1]}\u00d7{size[0]} on {image.shape[1]}\u00d7{image.shape[0]}"
        cells.append(Cell(picture, f"{caption}, {_count(int((~ignore).sum()), 'object')}"))
    note = "Dashed: ignored (crowds, difficult). Hatched: padding."
    return draw_grid(cells, 4 if len(cells) > 4 else 2, _legend(seen, classes), note)


def draw_detections(
    batch: DetectionBatch, detections: Detections, classes: Sequence[str], most: int = 8
) -> Picture:
    """Truth beside prediction, or the prediction alone where the whole batch carries no truth.

    Args:
        batch: what was predicted on.
        detections: what was predicted for it.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a legend.
    """
    cells, seen = [], set()
    has_truth = bool(np.any(np.asarray(batch.valid)) or np.any(np.asarray(batch.ignore)))
    examples = np.flatnonzero(np.asarray(batch.example_valid))[:most].tolist()
    for b in examples:
        height, width = (int(v) for v in np.asarray(batch.size[b]))
        image = np.asarray(batch.image[b])[:height, :width]
        scale = display_scale(height, width)
        if has_truth:
            boxes, labels, ignore = _truth(batch, b)
            seen.update(labels.tolist())
            picture = draw_boxes(image, boxes, labels, None, classes, ignore, scale)
            cells.append(Cell(picture, f"id {batch.id[b]}, truth: {_count(int((~ignore).sum()), 'object')}"))
        keep = np.asarray(detections.valid[b])
        boxes, labels, scores = (
            np.asarray(part[b])[keep] for part in (detections.boxes, detections.labels, detections.scores)
        )
        strong = scores >= STRONG
        seen.update(labels[strong].tolist())
        picture = draw_boxes(image, boxes, labels, scores, classes, None, scale)
        found = f"{int(strong.sum())} with score \u2265 {STRONG}"
        cells.append(Cell(picture, f"prediction: {found}" if has_truth else f"id {batch.id[b]}: {found}"))
    note = f"Thin: predictions with a score of {_WEAKEST} to {STRONG}, the best {_MOST_WEAK}."
    if has_truth:
        note += " Dashed: ignored (crowds, difficult)."
        columns = 4 if len(examples) > 1 else 2
    else:
        columns = min(4, max(1, int(np.ceil(np.sqrt(len(examples))))))
    return draw_grid(cells, columns, _legend(seen, classes), note)


def _truth(
    batch: DetectionBatch, b: int
) -> tuple[Float[np.ndarray, "n 4"], Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    valid, ignore = np.asarray(batch.valid[b]), np.asarray(batch.ignore[b])
    keep = (valid | ignore) & (np.asarray(batch.labels[b]) >= 0)
    return np.asarray(batch.boxes[b])[keep], np.asarray(batch.labels[b])[keep], ignore[keep]


def _legend(seen: set[int], classes: Sequence[str], most: int = 24) -> list[tuple[str, Color]]:
    """The classes in the pictures; all of them where there are few."""
    colors = class_colors(len(classes))
    shown = range(len(classes)) if len(classes) <= 8 else sorted(seen)[:most]
    return [(classes[k], _rgb(colors[k])) for k in shown]


def _rectangle(pen: ImageDraw.ImageDraw, box: np.ndarray, color: Color, style: str) -> None:
    """An outline; solid ones with a darker edge, so that they show on any image."""
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
    if style == "solid":
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_darker(color), width=1)
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


def _tag(
    pen: ImageDraw.ImageDraw,
    page: tuple[int, int],
    box: np.ndarray,
    text: str,
    color: Color,
    placed: list[tuple[int, int, int, int]],
) -> None:
    """Writes a name at the first free place: over the box, under it, inside it, to its right end."""
    width, height = text_width(text, _TEXT) + 6, _TEXT + 4
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    places = (
        (x1 - 1, y1 - height), (x1 - 1, y2), (x2 - width + 1, y1 - height), (x2 - width + 1, y2),
        (x1, y1), (x2 - width, y2 - height), (x2 - width, y1), (x1, y2 - height),
    )  # fmt: skip
    for x, y in places:
        spot = (x, y, x + width, y + height)
        inside = x >= -1 and y >= 0 and spot[2] <= page[0] + 1 and spot[3] <= page[1]
        if inside and not any(_overlap(spot, other) for other in placed):
            placed.append(spot)
            pen.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
            pen.text((x + 3, y + 1), text, ink_on(color), font(_TEXT))
            return


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _areas(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _rgb(color: np.ndarray) -> Color:
    return int(color[0]), int(color[1]), int(color[2])


def _darker(color: Color) -> Color:
    return color[0] // 3, color[1] // 3, color[2] // 3


def _score(value: float) -> str:
    """Two digits, never rounded up to 1."""
    return f"{np.floor(100 * value) / 100:.2f}".lstrip("0") if value < 1 else "1.0"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
