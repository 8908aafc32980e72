"""Pictures of instance masks: translucent, outlined, each object in a shade of its class's color."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vision_jax.ops.masks import paste_window
from vision_jax.types import InstanceBatch, Instances, Picture
from vision_jax.visualization.canvas import class_colors, darker, resize_picture, rgb, to_uint8
from vision_jax.visualization.detection.boxes import STRONG, plot_boxes
from vision_jax.visualization.detection.pictures import ImageObjects, batch_grid, prediction_grid

# A mask where it may be True: that part of the picture, and the (row, column) of its first pixel.
MaskWindow = tuple[Bool[np.ndarray, "_h _w"], tuple[int, int]]

_OPACITY = 0.45
# How far an object's color is taken from its class's towards white, or, where negative, towards black.
_SHADES = (0.0, 0.5, -0.4, 0.25, -0.2)


def plot_masks(
    image: Picture,
    objects: ImageObjects,
    masks: Sequence[MaskWindow],
    classes: Sequence[str],
    scale: float = 1.0,
) -> Picture:
    """Plots objects with their masks and names on an image.

    ImageObjects of one class whose boxes meet differ in shade. A predicted object with a score below 0.5, and
    one that is ignored or has no pixel in its mask, is plotted as a box alone, as `plot_boxes` does.

    Args:
        image: the picture.
        objects: what to plot, in its pixels.
        masks: of each object, in pixels of the enlarged image.
        classes: K names.
        scale: enlarges the image first, so that lines and text stay fine.

    Returns:
        A new picture, `scale` times as large.
    """
    colors = instance_colors(objects.boxes, objects.labels, len(classes))
    page = np.array(image if scale == 1 else resize_picture(image, scale))
    named = ~objects.ignore if objects.scores is None else ~objects.ignore & (objects.scores >= STRONG)
    filled = named & np.array([window.any() for window, _ in masks], bool)
    areas = np.array([window.sum() for window, _ in masks])
    largest_first = [int(i) for i in np.argsort(-areas, kind="stable") if filled[i]]
    for i in largest_first:
        _fill(page, masks[i], colors[i])
    for i in largest_first:
        _outline(page, masks[i], colors[i])
    boxes = objects.boxes * np.float32(scale)
    return plot_boxes(
        page, boxes, objects.labels, objects.scores, classes, objects.ignore, colors=colors, unboxed=filled
    )


def plot_instance_batch(batch: InstanceBatch, classes: Sequence[str], most: int = 8) -> Picture:
    """The batch as the model sees it: the whole canvas, padding hatched, with the true masks and boxes.

    Args:
        batch: images and truth; invalid examples are left out.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a legend.
    """
    return batch_grid(
        batch,
        classes,
        most,
        lambda b, image, truth, scale: _plot_truth(batch, b, image, truth, classes, scale),
    )


def plot_instances(
    batch: InstanceBatch, instances: Instances, classes: Sequence[str], most: int = 8
) -> Picture:
    """Truth beside prediction, or the prediction alone where the whole batch carries no truth.

    Args:
        batch: what was predicted on.
        instances: what was predicted for it.
        classes: K names.
        most: how many images at most.

    Returns:
        A grid with a legend.
    """

    def plot_found(b: int, image: Picture, found: ImageObjects, scale: float) -> Picture:
        """The predicted objects of example b, their masks pasted into the enlarged image."""
        size = _enlarged(image, scale)
        pasted = [
            paste_window(mask, box * np.float32(scale), size)
            for mask, box in zip(np.asarray(instances.masks[b])[found.slots], found.boxes, strict=True)
        ]
        return plot_masks(image, found, [(values > 0.5, corner) for values, corner in pasted], classes, scale)

    return prediction_grid(
        batch,
        instances,
        classes,
        most,
        lambda b, image, truth, scale: _plot_truth(batch, b, image, truth, classes, scale),
        plot_found,
    )


def _plot_truth(
    batch: InstanceBatch, b: int, image: Picture, truth: ImageObjects, classes: Sequence[str], scale: float
) -> Picture:
    """The true objects of example b with their masks, on its image enlarged."""
    masks, frames = np.asarray(batch.masks[b])[truth.slots], np.asarray(batch.frames[b])[truth.slots]
    size = _enlarged(image, scale)
    windows = [stretch(mask, frame * scale, size) for mask, frame in zip(masks, frames, strict=True)]
    return plot_masks(image, truth, windows, classes, scale)


def stretch(
    mask: UInt8[np.ndarray, "mh mw"], frame: Float[np.ndarray, " 4"], size: tuple[int, int]
) -> MaskWindow:
    """Resamples a mask bilinearly to the picture's pixels; True where its coverage is at least half.

    Args:
        mask: the coverage of the frame's cells, 0 to 255.
        frame: (x1, y1, x2, y2) in pixels, inside the picture or not.
        size: (height, width) of the picture.

    Returns:
        The mask of the pixels with their centers in the frame, inside the picture.
    """
    x1, y1, x2, y2 = frame.tolist()
    left, x = _centers(x1, x2, size[1], mask.shape[1])
    top, y = _centers(y1, y2, size[0], mask.shape[0])
    if not len(x) or not len(y):
        return np.zeros((0, 0), bool), (0, 0)
    values = cv2.remap(
        mask.astype(np.float32), *np.meshgrid(x, y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return values >= 127.5, (top, left)


def _centers(start: float, end: float, limit: int, cells: int) -> tuple[int, Float[np.ndarray, " n"]]:
    """The pixels whose centers lie between two positions, along one axis.

    Args:
        start, end: in pixels.
        limit: pixels of the picture.
        cells: into which start..end is divided.

    Returns: The first such pixel, and the positions of all among the cells (0 at the first cell's center),
        float32.
    """
    first, stop = np.clip(np.ceil([start - 0.5, end - 0.5]), 0, limit).astype(int).tolist()
    inside = np.arange(first, stop) + 0.5
    return first, ((inside - start) / (end - start) * cells - 0.5).astype(np.float32)


def instance_colors(
    boxes: Float[np.ndarray, "n 4"], labels: Int[np.ndarray, " n"], num_classes: int
) -> UInt8[np.ndarray, "n 3"]:
    """The class's color for each object, in a shade that no object of the class touching it has.

    Args:
        boxes: (x1, y1, x2, y2).
        labels: 0..K-1.
        num_classes: K.

    Returns:
        RGB, one row an object.
    """
    shades = np.zeros(len(boxes), int)
    for i, box in enumerate(boxes):
        before = np.flatnonzero(labels[:i] == labels[i])
        touching = (boxes[before, :2] <= box[2:]).all(axis=1) & (boxes[before, 2:] >= box[:2]).all(axis=1)
        taken = np.bincount(shades[before[touching]], minlength=len(_SHADES))
        in_turn = (len(before) + np.arange(len(_SHADES))) % len(_SHADES)
        shades[i] = in_turn[taken[in_turn].argmin()]
    amount = np.array(_SHADES)[shades][:, None]
    target = np.where(amount > 0, 255.0, 0.0)
    plain = class_colors(num_classes)[labels].astype(float)
    return to_uint8(plain + np.abs(amount) * (target - plain))


def _fill(page: Picture, mask: MaskWindow, color: UInt8[np.ndarray, "3"]) -> None:
    """Mixes a color (RGB) into the pixels of a mask, in place."""
    window, (top, left) = mask
    part = page[top : top + window.shape[0], left : left + window.shape[1]]
    mixed = (1 - _OPACITY) * part[window] + _OPACITY * color
    part[window] = to_uint8(mixed)


def _outline(page: Picture, mask: MaskWindow, color: UInt8[np.ndarray, "3"]) -> None:
    """Plots a mask's contours with a darker edge around them, in place."""
    window, (top, left) = mask
    found = cv2.findContours(
        window.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(left, top)
    )
    for ink, thickness in ((darker(rgb(color)), 3), (rgb(color), 2)):
        cv2.drawContours(page, found[0], -1, ink, thickness, cv2.LINE_AA)


def _enlarged(image: Picture, scale: float) -> tuple[int, int]:
    """(height, width) of an image as `resize_picture` enlarges it."""
    return max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
