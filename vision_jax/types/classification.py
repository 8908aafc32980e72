"""Image classification: what a model sees and what it predicts."""

from __future__ import annotations

from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8


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
