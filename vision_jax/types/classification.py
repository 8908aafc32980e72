"""Image classification: what a source holds, what a model sees, what it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8


@dataclass(frozen=True)
class ClassificationRecord:
    """One image's class as its source holds it.

    Attributes:
        id: unique in a split.
        name: the file's name, or the position in an IDX file.
        label: 0..K-1.
    """

    id: int
    name: str
    label: int


@runtime_checkable
class ClassificationSource(Protocol):
    """A split of labelled images, in random access."""

    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def record(self, index: int) -> ClassificationRecord: ...

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]: ...


@dataclass(frozen=True)
class ClassificationExample:
    """One labelled image on its way through the transforms."""

    id: int
    image: UInt8[np.ndarray, "h w 3"]
    label: int


@struct.dataclass
class ClassificationBatch:
    """Labelled images of one size.

    Attributes:
        image: uint8 RGB.
        labels: int32, 0..K-1.
        id: int32, the record's id.
        example_valid: False for the filling of a last, partial batch.
    """

    image: UInt8[Array, "b h w 3"]
    labels: Int[Array, " b"]
    id: Int[Array, " b"]
    example_valid: Bool[Array, " b"]


@struct.dataclass
class Classification:
    """The class predicted for each image.

    Attributes:
        labels: int32, the most probable class.
        probabilities: float32, they sum to 1 over the K classes.
    """

    labels: Int[Array, " b"]
    probabilities: Float[Array, "b k"]
