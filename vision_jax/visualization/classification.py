"""Pictures of labeled images, and of the classes predicted for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_jax.types import Classification, ClassificationBatch, Picture
from vision_jax.visualization.canvas import RIGHT, WRONG, Cell, display_scale, plot_grid, resize_picture

_COLUMNS = 8


def plot_classification_batch(batch: ClassificationBatch, classes: Sequence[str], most: int = 32) -> Picture:
    """The batch as the model sees it, each image under its class.

    Args:
        batch: images and labels; invalid examples are left out.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid.
    """
    cells = []
    for b in np.flatnonzero(np.asarray(batch.example_valid))[:most].tolist():
        label = int(batch.labels[b])
        cells.append(Cell(_enlarged(np.asarray(batch.image[b])), classes[label] if label >= 0 else ""))
    return plot_grid(cells, _COLUMNS)


def plot_classifications(
    batch: ClassificationBatch, predictions: Classification, classes: Sequence[str], most: int = 32
) -> Picture:
    """Each image under its predicted class; wrong ones framed, with the class that they have.

    Args:
        batch: what was predicted on; labels of -1 are unknown.
        predictions: what was predicted for it.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a line on how to read it.
    """
    cells, right, known = [], 0, 0
    for b in np.flatnonzero(np.asarray(batch.example_valid))[:most].tolist():
        truth, answer = int(batch.labels[b]), int(predictions.labels[b])
        sure = f"{100 * float(predictions.probabilities[b][answer]):.0f} %"
        picture = _enlarged(np.asarray(batch.image[b]))
        if truth < 0:
            cells.append(Cell(picture, f"{classes[answer]}, {sure}"))
            continue
        known, right = known + 1, right + (truth == answer)
        if truth == answer:
            cells.append(Cell(picture, f"{classes[answer]}, {sure}", RIGHT))
        else:
            caption = f"{classes[truth]}, not {classes[answer]}"
            cells.append(Cell(picture, caption, WRONG, framed=True))
    note = f"{right} of {known} right. Framed: wrong, as \u201ctruth, not prediction\u201d." if known else ""
    return plot_grid(cells, _COLUMNS, note=note)


def _enlarged(image: Picture) -> Picture:
    """An image in display size, by a whole factor from 4 on."""
    scale = display_scale(*image.shape[:2], smallest=128, largest=224)
    return resize_picture(image, float(int(scale)) if scale >= 4 else scale)
