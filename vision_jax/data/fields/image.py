"""An image's pixels, and how they relate to the file that they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from vision_jax.data.fields.field import CropWindow, Field, Size


@dataclass(frozen=True)
class Image(Field):
    """An RGB image.

    Attributes:
        pixels: uint8.
        original_size: (height, width) of the original image.
        scale: (x, y), pixels per original pixel; flips and crops leave it as it is.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    original_size: Size
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def original(cls, pixels: UInt8[np.ndarray, "h w 3"]) -> Image:
        """An image as it was read."""
        height, width = pixels.shape[:2]
        return cls(pixels, (height, width))

    @property
    def size(self) -> Size:
        """(height, width) as it is now."""
        height, width = self.pixels.shape[:2]
        return height, width

    def flip_horizontal(self, size: Size) -> Image:
        """Mirrors left and right."""
        return replace(self, pixels=cv2.flip(self.pixels, 1))

    def flip_vertical(self, size: Size) -> Image:
        """Mirrors top and bottom."""
        return replace(self, pixels=cv2.flip(self.pixels, 0))

    def resize(self, old: Size, new: Size) -> Image:
        """Areas averaged where neither side grows, else bilinear; `scale` times the exact ratios."""
        shrinks = new[0] <= old[0] and new[1] <= old[1]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        x, y = new[1] / old[1], new[0] / old[0]
        return replace(
            self,
            pixels=cv2.resize(self.pixels, (new[1], new[0]), interpolation=interpolation),
            scale=(self.scale[0] * x, self.scale[1] * y),
        )

    def crop(self, window: CropWindow) -> Image:
        """The pixels of the window."""
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        return replace(self, pixels=np.ascontiguousarray(self.pixels[rows, columns]))

    @staticmethod
    def stack(
        images: Sequence[Image], ids: Sequence[int], canvas: Size, batch_size: int
    ) -> dict[str, Shaped[np.ndarray, "b ..."]]:
        """Pastes images at the top left of canvases of zeros.

        Args:
            images: at most `batch_size`.
            ids: of their examples, for messages.
            canvas: (height, width).
            batch_size: B; missing images are black, as large as the canvas, at scale 1.

        Returns:
            `image` uint8 [B, H, W, 3]; `size` and `original_size` int32 [B, 2], (height, width); `scale`
            float32 [B, 2], (x, y).

        Raises:
            ValueError: an image is larger than the canvas.
        """
        pixels = np.zeros((batch_size, *canvas, 3), np.uint8)
        size = np.tile(np.array(canvas, np.int32), (batch_size, 1))
        original_size = size.copy()
        scale = np.ones((batch_size, 2), np.float32)
        for i, (image, id) in enumerate(zip(images, ids, strict=True)):
            height, width = image.size
            if height > canvas[0] or width > canvas[1]:
                raise ValueError(
                    f"image {id} is {height}x{width}, larger than the canvas {canvas}: resize it first"
                )
            pixels[i, :height, :width] = image.pixels
            size[i] = image.size
            original_size[i] = image.original_size
            scale[i] = image.scale
        return {"image": pixels, "size": size, "original_size": original_size, "scale": scale}
