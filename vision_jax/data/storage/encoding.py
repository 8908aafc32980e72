"""How pictures are stored in records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8

from vision_jax.data.transforms.geometry import Example, fit_factor, oriented, scale_by


@dataclass(frozen=True)
class Encoding:
    """How pictures are stored.

    Attributes:
        format: jpeg loses a little, png nothing.
        quality: of JPEG, 1 to 100.
        size: (long, short) sides in pixels that pictures are made to fit into; None keeps them as they are.
    """

    format: Literal["jpeg", "png"] = "jpeg"
    quality: int = 95
    size: tuple[int, int] | None = None

    def encode(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, " bytes"]:
        """The content of an image file."""
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality] if self.format == "jpeg" else []
        suffix = ".jpg" if self.format == "jpeg" else ".png"
        return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]

    def fit(self, example: Example) -> Example:
        """An example that is no larger than `size`."""
        if self.size is None:
            return example
        long, short = self.size
        height, width = example.size
        return scale_by(example, min(1.0, fit_factor(example, oriented((short, long), height, width))))
