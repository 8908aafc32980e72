"""Flips, resizing and crops of an example: of its image and, in step with it, of all of its other fields.

Functions change one example and return a new one; the given one is never written to, the new one may hold
arrays of it. How each kind of field moves is its own affair (`vision_jax.data.fields`).
"""

from __future__ import annotations

from typing import TypeVar

from vision_jax.data.examples import ImageExample
from vision_jax.data.fields.field import CropWindow, each_field

Canvas = tuple[int, int]
Example = TypeVar("Example", bound=ImageExample)


def oriented(canvas: Canvas, height: int, width: int) -> Canvas:
    """Turns a canvas to an image's orientation, so that little of it is padding.

    Args:
        canvas: (height, width), in either orientation.
        height: of the image.
        width: of the image.

    Returns:
        (height, width): landscape for an image that is wider than high, portrait for one that is higher than
        wide, as it was given for a square one.
    """
    if height == width:
        return canvas
    short, long = min(canvas), max(canvas)
    return (short, long) if width > height else (long, short)


def target_canvas(example: ImageExample, canvas: Canvas) -> Canvas:
    """The canvas of an example, (height, width): turned to the original's orientation where it turns."""
    return oriented(canvas, *example.image.original_size) if example.turns_canvas else canvas


def flip_horizontal(example: Example) -> Example:
    """Mirrors left and right."""
    return each_field(example, lambda field: field.flip_horizontal(example.size))


def flip_vertical(example: Example) -> Example:
    """Mirrors top and bottom."""
    return each_field(example, lambda field: field.flip_vertical(example.size))


def resize(example: Example, size: Canvas) -> Example:
    """Resizes to a given size.

    Args:
        example: any.
        size: (height, width), at least 1.

    Returns:
        The resized example; its image's `scale` is multiplied by the exact ratios.
    """
    if example.size == tuple(size):
        return example
    return each_field(example, lambda field: field.resize(example.size, size))


def fit_factor(example: ImageExample, canvas: Canvas) -> float:
    """The factor at which an example's image, as it is now, just fits into a canvas."""
    height, width = example.size
    return min(canvas[0] / height, canvas[1] / width)


def scale_by(example: Example, factor: float) -> Example:
    """Resizes by one factor for both axes; sides are rounded to whole pixels, at least 1."""
    height, width = example.size
    return resize(example, (max(1, round(height * factor)), max(1, round(width * factor))))


def crop(
    example: Example, top: int, left: int, height: int, width: int, min_visible: float = 0.25
) -> Example:
    """Keeps a rectangle of the image.

    Args:
        example: any.
        top: first row kept.
        left: first column kept.
        height: rows kept; the rectangle lies inside the image.
        width: columns kept.
        min_visible: an object is dropped when less than this fraction of its box's area is left, in 0..1.

    Returns:
        The part; its image's `scale` is unchanged.
    """
    window = CropWindow(top, left, height, width, min_visible)
    return each_field(example, lambda field: field.crop(window))
