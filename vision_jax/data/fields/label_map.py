"""A class for each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32

from vision_jax.data.fields.field import CropWindow, Field, Size


@dataclass(frozen=True)
class LabelMap(Field):
    """A label map of the image's size.

    Attributes:
        labels: 0..K-1, -1 where void.
    """

    labels: Int[np.ndarray, "h w"]

    def flip_horizontal(self, size: Size) -> LabelMap:
        """Mirrors left and right."""
        return LabelMap(np.ascontiguousarray(self.labels[:, ::-1]))

    def flip_vertical(self, size: Size) -> LabelMap:
        """Mirrors top and bottom."""
        return LabelMap(np.ascontiguousarray(self.labels[::-1]))

    def resize(self, old: Size, new: Size) -> LabelMap:
        """Each new pixel takes the label under its center."""
        return LabelMap(resize_labels(self.labels, new))

    def crop(self, window: CropWindow) -> LabelMap:
        """The labels of the window."""
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        return LabelMap(np.ascontiguousarray(self.labels[rows, columns]))

    @staticmethod
    def stack(maps: Sequence[LabelMap], canvas: Size, batch_size: int) -> Int32[np.ndarray, "b h w"]:
        """Pastes label maps at the top left of canvases of -1.

        Args:
            maps: at most `batch_size`, none larger than the canvas.
            canvas: (height, width).
            batch_size: B; missing maps are void.

        Returns:
            The labels.
        """
        labels = np.full((batch_size, *canvas), -1, np.int32)
        for i, one in enumerate(maps):
            height, width = one.labels.shape
            labels[i, :height, :width] = one.labels
        return labels


def resize_labels(labels: Int[np.ndarray, "h w"], size: Size) -> Int[np.ndarray, "{size[0]} {size[1]}"]:
    """Each new pixel takes the label under its center.

    Args:
        labels: at least one row and column.
        size: (height, width).
    """
    rows, columns = (
        ((2 * np.arange(new) + 1) * old) // (2 * new) for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
