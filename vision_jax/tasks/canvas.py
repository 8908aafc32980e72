"""The canvas: the size that all images are resized into, so that they can be batched."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.sources import spread
from vision_jax.types import UserError

Sides = tuple[int, int]  # (long, short) in pixels

_MULTIPLE = 32  # the coarsest stride of the usual backbones and pyramids
_LOOKED_AT = 64


def check_sides(canvas: Sides | None) -> None:
    """Checks the sides of a canvas.

    Args:
        canvas: (long, short) in pixels; None passes.

    Raises:
        UserError: a side is not positive, or the first is the shorter.
    """
    if canvas is None:
        return
    long, short = canvas
    if short < 1 or long < short:
        raise UserError(f"canvas {long} {short}: give the long side first, both in pixels")


def derived_sides(sizes: Int[np.ndarray, "n 2"], longest: int = 512, multiple: int = _MULTIPLE) -> Sides:
    """Chooses a canvas for images: their median aspect ratio and median long side, the latter up to a limit.

    Args:
        sizes: int32, (height, width) of some images in pixels.
        longest: limit of the long side in pixels.
        multiple: sides are rounded to multiples of it.

    Returns:
        (long, short) in pixels.

    Raises:
        UserError: there are no images.
    """
    if not len(sizes):
        raise UserError("there is no image to train on: the split is empty")
    long, short = sizes.max(1), sizes.min(1)
    length = min(float(longest), float(np.median(long)))
    breadth = length * float(np.median(short / long))
    first, second = (max(multiple, round(side / multiple) * multiple) for side in (length, breadth))
    return first, second


def oriented_canvas(sizes: Int[np.ndarray, "n 2"], sides: Sides) -> tuple[int, int]:
    """A canvas in the orientation of most images, landscape where there are as many of both.

    Args:
        sizes: int32, (height, width) of some images in pixels.
        sides: (long, short) in pixels.

    Returns:
        (height, width) in pixels.
    """
    long, short = sides
    return (long, short) if (sizes[:, 0] > sizes[:, 1]).mean() > 0.5 else (short, long)


@runtime_checkable
class Images(Protocol):
    """A source with random access to its images."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """RGB."""
        ...


def sampled_sizes(source: Images) -> Int[np.ndarray, "n 2"]:
    """(height, width) of at most 64 images, in pixels, int32, evenly spread; reads these images."""
    sizes = [source.image(i).shape[:2] for i in spread(len(source), _LOOKED_AT)]
    return np.array(sizes, np.int32).reshape(-1, 2)
