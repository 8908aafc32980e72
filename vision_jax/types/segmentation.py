"""Semantic segmentation: what a model sees and what it predicts."""

from __future__ import annotations

from dataclasses import dataclass

from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from vision_jax.types.spec import JsonSpec


@dataclass(frozen=True)
class SegmentationSpec(JsonSpec):
    """What images with label maps decide.

    Attributes:
        classes: K names, in the order of labels.
        canvas: (long, short) sides in pixels that images are resized into.
        class_weights: of each class's pixels in the loss, K numbers; None where all are equal.
    """

    classes: tuple[str, ...]
    canvas: tuple[int, int]
    class_weights: tuple[float, ...] | None = None

    def describe(self) -> str:
        """For the log."""
        weighted = "" if self.class_weights is None else ", weighted"
        return f"{len(self.classes)} classes{weighted}, canvas {self.canvas[0]} x {self.canvas[1]}"


@struct.dataclass
class SegmentationBatch:
    """Images on one canvas with their label maps.

    Attributes:
        image: uint8 RGB; the content is at the top left, the rest of the canvas is padding.
        size: int32, (height, width) of the content.
        labels: int32, 0..K-1, -1 where void or padded.
        id: int32, the example's id.
        original_size: int32, (height, width) of the original image.
        example_valid: False for the padding examples of a last, partial batch.
    """

    image: UInt8[Array, "b h w 3"]
    size: Int[Array, "b 2"]
    labels: Int[Array, "b h w"]
    id: Int[Array, " b"]
    original_size: Int[Array, "b 2"]
    example_valid: Bool[Array, " b"]


@struct.dataclass
class Segmentation:
    """The class predicted for each pixel.

    Attributes:
        labels: int32, 0..K-1.
        probabilities: float32, they sum to 1 over the K classes.
    """

    labels: Int[Array, "b h w"]
    probabilities: Float[Array, "b h w k"]
