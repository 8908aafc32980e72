"""Masks as pictures with frames (`vision_jax.types.instance`): cut out of masks, rendered on a canvas.

Of an object's mask only the frame moves: however often an image is resized and cropped, its masks keep the
resolution that they were read in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from vision_jax.data.fields.boxes import (
    flip_boxes_horizontal,
    flip_boxes_vertical,
    resize_boxes,
    shift_boxes,
)
from vision_jax.data.fields.field import CropWindow, Size
from vision_jax.data.fields.objects import Objects, PerObject


@dataclass(frozen=True)
class Masks(PerObject):
    """The masks of an image's objects.

    Attributes:
        coverage: uint8, each object's coverage of the cells of its frame, 0 (none) to 255 (all).
        frames: float32, (x1, y1, x2, y2) in pixels of the image as it is now, inside it or not.
        full: whether the masks are full bitmaps, which a batch renders on its canvas, instead of crops, which
            it takes as they are.
    """

    coverage: UInt8[np.ndarray, "n mh mw"]
    frames: Float[np.ndarray, "n 4"]
    full: bool = False

    @classmethod
    def none(cls, size: int) -> Masks:
        """No mask, of crops that would have `size` cells along each side."""
        return cls(np.zeros((0, size, size), np.uint8), np.zeros((0, 4), np.float32))

    @classmethod
    def crops(cls, masks: Bool[np.ndarray, "n h w"], boxes: Float[np.ndarray, "n 4"], size: int) -> Masks:
        """Crops at boxes, as `cut_masks` makes them."""
        return cls(*cut_masks(masks, boxes, size))

    @classmethod
    def bitmaps(cls, masks: Bool[np.ndarray, "n h w"]) -> Masks:
        """Full bitmaps of masks of whole images."""
        count, height, width = masks.shape
        frames = np.tile(np.array([0, 0, width, height], np.float32), (count, 1))
        return cls(masks.astype(np.uint8) * 255, frames, full=True)

    def select(self, keep: Bool[np.ndarray, " n"]) -> Masks:
        """The masks of the objects that are kept."""
        return replace(self, coverage=self.coverage[keep], frames=self.frames[keep])

    def flip_horizontal(self, size: Size) -> Masks:
        """Mirrors left and right."""
        frames = flip_boxes_horizontal(self.frames, size)
        return replace(self, coverage=self.coverage[:, :, ::-1], frames=frames)

    def flip_vertical(self, size: Size) -> Masks:
        """Mirrors top and bottom."""
        frames = flip_boxes_vertical(self.frames, size)
        return replace(self, coverage=self.coverage[:, ::-1], frames=frames)

    def resize(self, old: Size, new: Size) -> Masks:
        """Frames times the exact ratios."""
        return replace(self, frames=resize_boxes(self.frames, old, new))

    def crop(self, window: CropWindow) -> Masks:
        """Frames in pixels of the window, not clipped to it."""
        return replace(self, frames=shift_boxes(self.frames, window))

    @staticmethod
    def stack(
        masks: Sequence[Masks], sizes: Sequence[Size], canvas: Size, max_objects: int, batch_size: int
    ) -> tuple[UInt8[np.ndarray, "b n mh mw"], Float32[np.ndarray, "b n 4"]]:
        """Pads masks and frames.

        Crops are taken as they are. Full bitmaps are rendered on the canvas, each pixel with the cell under
        its center, 0 outside the content, and their frame is the canvas.

        Args:
            masks: of at least one and at most `batch_size` images; all crops of one size, or all bitmaps.
            sizes: (height, width) of these images.
            canvas: (height, width).
            max_objects: N, at least the objects of each image.
            batch_size: B.

        Returns:
            Masks and frames. Where padded, a mask is 0 and its frame the unit square at the origin (for full
            bitmaps the canvas): no frame is empty.

        Raises:
            ValueError: crops of several sizes, or crops and bitmaps.
        """
        kinds = {one.full or one.coverage.shape[1:] for one in masks}
        if len(kinds) != 1:
            raise ValueError(f"a batch takes masks of one kind and size, not of {len(kinds)}")
        full = masks[0].full
        cells = canvas if full else masks[0].coverage.shape[1:]
        stacked = np.zeros((batch_size, max_objects, *cells), np.uint8)
        unused = [0, 0, canvas[1], canvas[0]] if full else [0, 0, 1, 1]
        frames = np.tile(np.array(unused, np.float32), (batch_size, max_objects, 1))
        for i, (one, (height, width)) in enumerate(zip(masks, sizes, strict=True)):
            if full:
                for j, (mask, frame) in enumerate(zip(one.coverage, one.frames, strict=True)):
                    stacked[i, j, :height, :width] = render_mask(mask, frame, height, width)
            else:
                stacked[i, : len(one.coverage)] = one.coverage
                frames[i, : len(one.frames)] = one.frames
        return stacked, frames


@dataclass(frozen=True)
class MaskedObjects(Objects):
    """Objects with their masks.

    Attributes:
        masks: of each object, all 0 where its shape is not known.
    """

    masks: Masks


def cut_masks(
    masks: Bool[np.ndarray, "n h w"], boxes: Float[np.ndarray, "n 4"], size: int
) -> tuple[UInt8[np.ndarray, "n {size} {size}"], Float[np.ndarray, "n 4"]]:
    """Cuts each object's mask out at its box and brings it to one size.

    Args:
        masks: of whole images.
        boxes: (x1, y1, x2, y2) in pixels of the masks, inside them and never empty.
        size: cells along each side of a crop.

    Returns:
        The crops, each cell holding the covered part of its area, 0 to 255; and their frames, the boxes
        widened to whole pixels.
    """
    frames = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(np.float32)
    crops = np.zeros((len(masks), size, size), np.uint8)
    for i, (x1, y1, x2, y2) in enumerate(frames.astype(int).tolist()):
        part = masks[i, y1:y2, x1:x2].astype(np.float32)
        # not OpenCV's INTER_AREA, which is no area where one axis grows and the other shrinks
        crops[i] = np.rint(255 * _row_means(_row_means(part, size).T, size).T)
    return crops, frames


def _row_means(picture: Float[np.ndarray, "h w"], cells: int) -> Float[np.ndarray, "{cells} w"]:
    """Means over equal cells along the rows' axis, pixels under two cells counted in parts."""
    height, width = picture.shape
    edges = np.arange(cells + 1) * (height / cells)
    whole = np.minimum(edges.astype(np.int64), height - 1)
    part = (edges - whole).astype(np.float32)[:, None]
    above = np.zeros((height, width), np.float32)
    np.cumsum(picture[:-1], axis=0, out=above[1:])
    return np.diff(above[whole] + part * picture[whole], axis=0) * np.float32(cells / height)


def render_mask(
    mask: UInt8[np.ndarray, "mh mw"], frame: Float[np.ndarray, " 4"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width}"]:
    """Renders a mask on a canvas: each pixel takes the cell that its center falls in, 0 outside the frame.

    Args:
        mask: a picture of cells.
        frame: (x1, y1, x2, y2), the part of the canvas that it covers; may reach over the border.
        height, width: of the canvas, in pixels.

    Returns:
        The canvas.
    """
    x1, y1, x2, y2 = frame.astype(np.float64)
    canvas = np.zeros((height, width), np.uint8)
    rows, top = _cells(y1, y2, mask.shape[0], height)
    columns, left = _cells(x1, x2, mask.shape[1], width)
    canvas[top : top + len(rows), left : left + len(columns)] = mask[rows[:, None], columns]
    return canvas


def _cells(low: float, high: float, cells: int, pixels: int) -> tuple[Int[np.ndarray, " inside"], int]:
    """Along one axis: the cell under each center of the pixels inside the frame, and the first such pixel."""
    cell = np.floor((np.arange(pixels) + 0.5 - low) * cells / (high - low)).astype(np.int64)
    inside = np.flatnonzero((cell >= 0) & (cell < cells))
    return cell[inside], int(inside[0]) if len(inside) else 0
