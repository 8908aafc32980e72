"""Pictures of label maps: laid over the image, truth beside prediction, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Int

from vision_jax.types import Picture, Segmentation, SegmentationBatch
from vision_jax.visualization.canvas import (
    Cell,
    Color,
    class_colors,
    class_legend,
    display_scale,
    mark_padding,
    plot_grid,
    resize_picture,
    to_uint8,
)

# Far from every class color, and dark beside the faint image for any kind of color vision.
_ERROR: Color = (190, 0, 70)
_SMALLEST, _LARGEST = 320, 480
# Of the legend: a picture shows more classes where each pixel has one.
_FEW, _MOST = 24, 32


def plot_labels(
    image: Picture, labels: Int[np.ndarray, "h w"], classes: Sequence[str], opacity: float = 0.65
) -> Picture:
    """Lays class colors over an image.

    Args:
        image: the picture.
        labels: 0..K-1; where negative (void) the image shows through in gray.
        classes: K names.
        opacity: of the colors, 0..1.

    Returns:
        A new picture of the same size.
    """
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    colors = class_colors(len(classes)).astype(np.float64)[np.maximum(labels, 0)]
    mixed = (1 - opacity) * gray + opacity * colors
    return to_uint8(np.where((labels >= 0)[..., None], mixed, gray))


def plot_segmentation_batch(batch: SegmentationBatch, classes: Sequence[str], most: int = 8) -> Picture:
    """The batch as the model sees it: each canvas, padding hatched, beside its label map.

    Args:
        batch: images and labels; invalid examples are left out.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a legend.
    """
    cells, seen = [], set()
    for b in np.flatnonzero(np.asarray(batch.example_valid))[:most].tolist():
        image, labels = np.asarray(batch.image[b]), np.asarray(batch.labels[b])
        height, width = (int(v) for v in np.asarray(batch.size[b]))
        seen.update(np.unique(labels).tolist())
        for picture, caption in (
            (image, f"id {batch.id[b]}"),
            (plot_labels(image, labels, classes), "truth"),
        ):
            cells.append(Cell(_enlarged(mark_padding(picture, height, width)), caption))
    note = "Gray: void, not counted. Hatched: padding."
    return plot_grid(cells, 4, class_legend(seen, classes, _FEW, _MOST), note)


def plot_segmentations(
    batch: SegmentationBatch, predictions: Segmentation, classes: Sequence[str], most: int = 6
) -> Picture:
    """Image, truth, prediction and errors in a row; without truth in the whole batch, image and prediction.

    Args:
        batch: what was predicted on.
        predictions: what was predicted for it.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a legend.
    """
    cells, seen = [], set()
    has_truth = bool(np.any(np.asarray(batch.labels) >= 0))
    for b in np.flatnonzero(np.asarray(batch.example_valid))[:most].tolist():
        height, width = (int(v) for v in np.asarray(batch.size[b]))
        image, truth, answer = (
            np.asarray(part[b])[:height, :width] for part in (batch.image, batch.labels, predictions.labels)
        )
        seen.update(np.unique(answer).tolist())
        cells.append(Cell(_enlarged(image), f"id {batch.id[b]}"))
        if has_truth:
            seen.update(np.unique(truth).tolist())
            cells.append(Cell(_enlarged(plot_labels(image, truth, classes)), "truth"))
        cells.append(Cell(_enlarged(plot_labels(image, answer, classes)), "prediction"))
        if has_truth:
            labeled = truth >= 0
            right = 100 * np.mean(truth[labeled] == answer[labeled]) if labeled.any() else None
            caption = (
                "no pixel has a label" if right is None else f"errors: {right:.1f} % of pixels are right"
            )
            errors = _plot_errors(image, labeled & (truth != answer), labeled)
            cells.append(Cell(_enlarged(errors), caption))
    legend = class_legend(seen, classes, _FEW, _MOST)
    note = ""
    if has_truth:
        legend.append(("wrong (last column)", _ERROR))
        note = "Gray in truth and errors: void, not counted."
    return plot_grid(cells, 4, legend, note)


def _plot_errors(image: Picture, wrong: Bool[np.ndarray, "h w"], labeled: Bool[np.ndarray, "h w"]) -> Picture:
    """The image made faint; wrong pixels in the error color, those without a label darker."""
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    faint = np.where(labeled[..., None], 255 - (255 - gray) * 0.35, 150 + gray * 0.1)
    return to_uint8(np.where(wrong[..., None], np.array(_ERROR, float), faint))


def _enlarged(picture: Picture) -> Picture:
    """A picture in display size; bilinear when larger, which does not overshoot at edges of label maps."""
    scale = display_scale(*picture.shape[:2], smallest=_SMALLEST, largest=_LARGEST)
    if scale <= 1:
        return resize_picture(picture, scale)
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_LINEAR)
