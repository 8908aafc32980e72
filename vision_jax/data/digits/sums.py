"""Two digits in one image, and their sum (Jaderberg et al. 2015, appendix A.1, "MNIST addition").

The first digit is in the image's first channel, the second in the second, each distorted by a sample of its
own; the third channel is black. The label is the sum, 0 to 18.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vision_jax.data.digits.distortions import Digit, Distort, evaluation_rng
from vision_jax.data.examples import ClassificationExample
from vision_jax.data.fields.image import Image
from vision_jax.data.sources import ClassificationSource
from vision_jax.types import UserError

SUMS = tuple(str(total) for total in range(19))


@dataclass(frozen=True)
class DistortSum:
    """Puts a second digit beside each one, sampled anew each time, and distorts both.

    Attributes:
        distort: of a single digit; its source gives the second one, too.
    """

    distort: Distort

    def __post_init__(self) -> None:
        check_digits(self.distort.source)

    def prepare(self, example: ClassificationExample) -> ClassificationExample:
        """Resizes a digit to its frame."""
        return self.distort.prepare(example)

    def __call__(self, example: ClassificationExample, rng: np.random.Generator) -> ClassificationExample:
        """Adds a second digit to a prepared example: uint8 [canvas, canvas, 3], labeled with the sum."""
        source = self.distort.source
        at = int(rng.integers(len(source)))
        second = self.prepare(replace(example, image=Image.original(source.image(at))))
        channels: list[Digit] = [self.distort(each, rng).image.pixels[..., 0] for each in (example, second)]
        pixels = np.stack([*channels, np.zeros_like(channels[0])], -1)
        return replace(example, image=Image.original(pixels), label=example.label + source.record(at).label)

    def for_evaluation(self, example: ClassificationExample) -> ClassificationExample:
        """The same pair for the same example each time, so that every run is evaluated on one set."""
        return self(self.prepare(example), evaluation_rng(example.id))


def check_digits(source: ClassificationSource) -> None:
    """Raises a `UserError` where labels are not the digits that they name."""
    if source.classes != SUMS[:10]:
        raise UserError(f"sums need the classes 0 to 9, not {', '.join(source.classes)}")
