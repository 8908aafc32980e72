"""A split of a data set in random access: what every format opens."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from vision_jax.data.records import ClassificationRecord, DetectionRecord


def spread(length: int, count: int) -> list[int]:
    """Indices of at most `count` of a split's records, evenly spread from the first to the last.

    Args:
        length: records in the split, 0 or more.
        count: 0 or more; 1 gives the first record.

    Returns:
        Ascending indices, each once: all of them where there are no more than `count`.
    """
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int)).tolist()


class Subset:
    """The first records of a source, with all else that it states.

    What a source states of all of its records at once is still that of all: ask it for one record at a time.

    Args:
        source: in random access.
        count: how many; all where it has no more.
    """

    def __init__(self, source: Any, count: int) -> None:
        self._count = min(count, len(source))
        # Attributes of its own: a protocol does not look for what `__getattr__` would find (Python 3.12).
        for name in dir(source):
            if not name.startswith("_"):
                setattr(self, name, getattr(source, name))

    def __len__(self) -> int:
        return self._count

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the source has no {name}")  # here for type checkers


@runtime_checkable
class Source(Protocol):
    """A split, in random access; what it gives of an example is its task family's affair.

    Attributes:
        classes: class names, in label order; none where nothing has a class.
    """

    classes: tuple[str, ...]

    def __len__(self) -> int: ...


@runtime_checkable
class ClassificationSource(Source, Protocol):
    """A split of labeled images, in random access."""

    def record(self, index: int) -> ClassificationRecord:
        """The class of one image."""
        ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Its pixels: RGB, EXIF rotation applied."""
        ...


@runtime_checkable
class DetectionSource(Source, Protocol):
    """A split of images with boxes, in random access; opening it reads annotations, never pixels."""

    def record(self, index: int) -> DetectionRecord:
        """The annotations of one image."""
        ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Its pixels: RGB, EXIF rotation applied."""
        ...


@runtime_checkable
class SegmentationSource(Source, Protocol):
    """A split of images with a label for each pixel, in random access."""

    def name(self, index: int) -> str:
        """The image file's name; the id is the index."""
        ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Its pixels: RGB, EXIF rotation applied."""
        ...

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """int32, 0..K-1, -1 where void; the image's size."""
        ...


@runtime_checkable
class InstanceSource(DetectionSource, Protocol):
    """A split of images with boxes and masks, in random access.

    A source whose shapes are COCO's may also have `segmentations(index)`, each box's `segmentation` as COCO's
    files hold it: AP is then evaluated against the masks that COCO's
    tools make of it.
    """

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """Each box's object in original pixels, in the record's order; all False where no shape is known."""
        ...
