"""Image classification: what a model sees and what it predicts."""

from __future__ import annotations

from dataclasses import dataclass

from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from vision_jax.types.spec import JsonSpec


@dataclass(frozen=True)
class ClassificationSpec(JsonSpec):
    """What labeled images decide.

    Attributes:
        classes: K names, in the order of labels.
        canvas: (long, short) sides in pixels that images are resized into.
    """

    classes: tuple[str, ...]
    canvas: tuple[int, int]

    def describe(self) -> str:
        """For the log."""
        return f"{len(self.classes)} classes, canvas {self.canvas[0]} x {self.canvas[1]}"


@struct.dataclass
class ClassificationBatch:
    """Labeled images of one size.

    Attributes:
        image: uint8 RGB.
        labels: int32, 0..K-1.
        id: int32, the example's id.
        example_valid: False for the padding examples of a last, partial batch.
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
