"""Digits of one kind, each somewhere in a larger image, with the frame that it came in as its box.

For co-localization (Jaderberg et al. 2015, appendix A.2): 84 x 84 pixels, in the cluttered version with 16
parts of other digits about.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float, UInt8

from vision_jax.data.digits.distortions import FRAME, Distortion, any_digit, distort, evaluation_rng, framed
from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import ClassificationSource
from vision_jax.types import UserError


class LocatedDigits:
    """A detection source of one object an image, from a source of digits; the same ones every time.

    Attributes:
        classes: the digit's name alone.
    """

    def __init__(
        self, digits: ClassificationSource, digit: str, length: int, distractors: int = 0, canvas: int = 84
    ):
        """Looks for the digits; samples nothing yet.

        Args:
            digits: labeled images.
            digit: the name of the class.
            length: the first so many of them.
            distractors: 6 x 6 parts of any digits in each image.
            canvas: side of the images, in pixels, at least a frame's.

        Raises:
            UserError: there is no such class, or it has fewer images.
        """
        if digit not in digits.classes:
            raise UserError(f"digit is {digit}: there are {', '.join(digits.classes)}")
        label = digits.classes.index(digit)
        found = [i for i in range(len(digits)) if digits.record(i).label == label]
        if len(found) < length:
            raise UserError(f"there are {len(found)} images of {digit}, not {length}")
        self.classes: tuple[str, ...] = (digit,)
        self._digits = digits
        self._indices = found[:length]
        self._distortion = Distortion(canvas, anywhere=True, distractors=distractors)

    def __len__(self) -> int:
        return len(self._indices)

    def record(self, index: int) -> DetectionRecord:
        """The frame of the digit."""
        middle = self._sample(index)[1]
        corners = np.concatenate([middle - FRAME / 2, middle + FRAME / 2])[None]
        return DetectionRecord(
            id=index,
            name=f"digit_{index:06d}",
            height=self._distortion.canvas,
            width=self._distortion.canvas,
            boxes=corners.astype(np.float64),
            labels=np.zeros(1, np.int32),
            ignore=np.zeros(1, bool),
            area=np.full(1, FRAME**2, np.float64),
        )

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The digit where it is, among its distractors."""
        return self._sample(index)[0]

    def _sample(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "2"]]:
        """An image, and (x, y) of its digit's middle in pixels: the same for an index each time."""
        digit = framed(self._digits.image(self._indices[index]))
        return distort(digit, self._distortion, evaluation_rng(index), partial(any_digit, self._digits))
