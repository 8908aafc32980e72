"""The contract of a field: flipped, resized and cropped in step with the image that it belongs to.

Coordinates: a pixel's center is at +0.5, so pixel column `c` covers [c, c + 1). Resizing by a ratio
multiplies coordinates by exactly that ratio.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

S = TypeVar("S")

# (height, width), in pixels.
Size = tuple[int, int]


@dataclass(frozen=True)
class CropWindow:
    """The part of an image that a crop keeps, inside the image.

    Attributes:
        top: first row kept.
        left: first column kept.
        height: rows kept, at least 1.
        width: columns kept, at least 1.
        min_visible: an object is dropped when less than this fraction of its box's area is left, in 0..1.
    """

    top: int
    left: int
    height: int
    width: int
    min_visible: float = 0.25


class Field(ABC):
    """A part of an example that moves with its image's pixels.

    A frozen dataclass of numpy arrays. Each method returns a new field, which may hold arrays or views of the
    given one; the given one is never written to.
    """

    @abstractmethod
    def flip_horizontal(self, size: Size) -> Field:
        """Mirrors left and right; `size` is the image's."""

    @abstractmethod
    def flip_vertical(self, size: Size) -> Field:
        """Mirrors top and bottom; `size` is the image's."""

    @abstractmethod
    def resize(self, old: Size, new: Size) -> Field:
        """Follows an image that is resized; both sizes at least 1."""

    @abstractmethod
    def crop(self, window: CropWindow) -> Field:
        """Follows an image of which a window is kept."""


def each_field(struct: S, change: Callable[[Any], Any]) -> S:
    """A dataclass with each of its fields changed, and what is no `Field` as it was.

    Args:
        struct: an example, or a field made of fields.
        change: (field) -> field of the same type.
    """
    values = {field.name: getattr(struct, field.name) for field in fields(struct)}  # pyright: ignore
    changed = {name: change(value) for name, value in values.items() if isinstance(value, Field)}
    return replace(struct, **changed)  # pyright: ignore
