"""Pictures of detection: a batch as the model sees it, and truth beside prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vision_jax.types import DetectionBatch, Detections, Picture
from vision_jax.visualization.canvas import Cell, class_legend, display_scale, mark_padding, plot_grid
from vision_jax.visualization.detection.boxes import MOST_WEAK, STRONG, WEAKEST, plot_boxes


class ImageObjects(NamedTuple):
    """The objects of one image that are plotted, in canvas pixels.

    Attributes:
        slots: the position of each in the batch's padded arrays.
        boxes: (x1, y1, x2, y2).
        labels: 0..K-1.
        scores: 0..1; None for truth.
        ignore: crowds, difficult objects.
    """

    slots: Int[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"] | None
    ignore: Bool[np.ndarray, " n"]


# Plots the objects of example b on its image, enlarged: (b, image, objects, scale) -> picture.
ObjectPlotter = Callable[[int, Picture, ImageObjects, float], Picture]


def plot_detection_batch(batch: DetectionBatch, classes: Sequence[str], most: int = 8) -> Picture:
    """The batch as the model sees it: the whole canvas, padding hatched, with the true boxes.

    Args:
        batch: images and truth; invalid examples are left out.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a legend.
    """
    return batch_grid(batch, classes, most, _boxes_of(classes))


def plot_detections(
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
    plot = _boxes_of(classes)
    return prediction_grid(batch, detections, classes, most, plot, plot)


def _boxes_of(classes: Sequence[str]) -> ObjectPlotter:
    """Plots objects as boxes."""
    return lambda b, image, objects, scale: plot_boxes(image, *objects[1:4], classes, objects.ignore, scale)


def batch_grid(batch: DetectionBatch, classes: Sequence[str], most: int, plot: ObjectPlotter) -> Picture:
    """The batch as the model sees it: the whole canvas, padding hatched, with the true objects on it.

    Args:
        batch: images and truth; invalid examples are left out.
        classes: K names.
        most: how many images at most.
        plot: plots the true objects.

    Returns:
        A grid with a legend.
    """
    cells, seen = [], set()
    for b in np.flatnonzero(np.asarray(batch.example_valid))[:most].tolist():
        image, (height, width) = np.asarray(batch.image[b]), np.asarray(batch.size[b]).tolist()
        truth = _truth(batch, b)
        seen.update(truth.labels.tolist())
        picture = plot(b, mark_padding(image, height, width), truth, display_scale(*image.shape[:2]))
        caption = f"id {batch.id[b]}: {width}\u00d7{height} on {image.shape[1]}\u00d7{image.shape[0]}"
        cells.append(Cell(picture, f"{caption}, {_wanted(truth)}"))
    note = "Dashed: ignored (crowds, difficult). Hatched: padding."
    return plot_grid(cells, 4 if len(cells) > 4 else 2, class_legend(seen, classes), note)


def prediction_grid(
    batch: DetectionBatch,
    detections: Detections,
    classes: Sequence[str],
    most: int,
    plot_truth: ObjectPlotter,
    plot_found: ObjectPlotter,
) -> Picture:
    """Truth beside prediction, or the prediction alone where the whole batch carries no truth.

    Args:
        batch: what was predicted on.
        detections: what was predicted for it.
        classes: K names.
        most: how many images at most.
        plot_truth, plot_found: plot the true and the predicted objects.

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
            truth = _truth(batch, b)
            seen.update(truth.labels.tolist())
            picture = plot_truth(b, image, truth, scale)
            cells.append(Cell(picture, f"id {batch.id[b]}, truth: {_wanted(truth)}"))
        slots = np.flatnonzero(np.asarray(detections.valid[b]))
        boxes, labels, scores = (
            np.asarray(part[b])[slots] for part in (detections.boxes, detections.labels, detections.scores)
        )
        strong = scores >= STRONG
        seen.update(labels[strong].tolist())
        found = ImageObjects(slots, boxes, labels, scores, np.zeros(len(slots), bool))
        count = f"{int(strong.sum())} with score \u2265 {STRONG}"
        caption = f"prediction: {count}" if has_truth else f"id {batch.id[b]}: {count}"
        cells.append(Cell(plot_found(b, image, found, scale), caption))
    note = f"Thin: predictions with a score of {WEAKEST} to {STRONG}, the best {MOST_WEAK}."
    if has_truth:
        note += " Dashed: ignored (crowds, difficult)."
        columns = 4 if len(examples) > 1 else 2
    else:
        columns = min(4, max(1, int(np.ceil(np.sqrt(len(examples))))))
    return plot_grid(cells, columns, class_legend(seen, classes), note)


def _truth(batch: DetectionBatch, b: int) -> ImageObjects:
    """The true objects of example b, ignored ones included."""
    valid, ignore = np.asarray(batch.valid[b]), np.asarray(batch.ignore[b])
    slots = np.flatnonzero((valid | ignore) & (np.asarray(batch.labels[b]) >= 0))
    boxes, labels = np.asarray(batch.boxes[b])[slots], np.asarray(batch.labels[b])[slots]
    return ImageObjects(slots, boxes, labels, None, ignore[slots])


def _wanted(truth: ImageObjects) -> str:
    """How many objects are to be found, in words."""
    n = int((~truth.ignore).sum())
    return f"{n} object" if n == 1 else f"{n} objects"
