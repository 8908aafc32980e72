"""Object detection: what a model sees and what it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from vision_jax.types.spec import JsonSpec


@dataclass(frozen=True)
class DetectionSpec(JsonSpec):
    """What images with objects decide.

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
class DetectionBatch:
    """Images on one canvas with their boxes, padded to N objects an image.

    Attributes:
        image: uint8 RGB; the content is at the top left, the rest of the canvas is padding.
        size: int32, (height, width) of the content in canvas pixels.
        boxes: float32, (x1, y1, x2, y2) in canvas pixels, x2 and y2 exclusive.
        labels: int32, 0..K-1, -1 where padded.
        valid: which boxes are objects to find (False for padding and for `ignore`d boxes).
        ignore: which boxes are crowds or difficult: not to be found, and not background either.
        id: int32, the example's id; randomness folds it in.
        scale: float32, (x, y) canvas pixels per original pixel.
        original_size: int32, (height, width) of the original image.
        example_valid: False for the padding examples of a last, partial batch.
    """

    image: UInt8[Array, "b h w 3"]
    size: Int[Array, "b 2"]
    boxes: Float[Array, "b n 4"]
    labels: Int[Array, "b n"]
    valid: Bool[Array, "b n"]
    ignore: Bool[Array, "b n"]
    id: Int[Array, " b"]
    scale: Float[Array, "b 2"]
    original_size: Int[Array, "b 2"]
    example_valid: Bool[Array, " b"]


@struct.dataclass
class Proposals:
    """Boxes that may hold an object, best first, padded to R an image.

    Attributes:
        boxes: float32, canvas pixels, inside the image.
        scores: float32, objectness logits.
        valid: which are proposals.
    """

    boxes: Float[Array, "b r 4"]
    scores: Float[Array, "b r"]
    valid: Bool[Array, "b r"]


@struct.dataclass
class Detections:
    """Boxes found, padded to D an image, best first, in canvas pixels.

    Attributes:
        boxes: float32, (x1, y1, x2, y2), x2 and y2 exclusive.
        scores: float32 in 0..1, 0 where padded.
        labels: int32, 0..K-1, -1 where padded.
        valid: which of them are detections.
    """

    boxes: Float[Array, "b d 4"]
    scores: Float[Array, "b d"]
    labels: Int[Array, "b d"]
    valid: Bool[Array, "b d"]


class ImageDetections(NamedTuple):
    """One image's detections, without padding, in the original image's pixels: numpy.

    Attributes:
        id: the example's id.
        boxes: float32, (x1, y1, x2, y2), x2 and y2 exclusive.
        scores: float32 in 0..1.
        labels: int32, 0..K-1.
    """

    id: int
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]


def to_original(batch: DetectionBatch, detections: Detections) -> list[ImageDetections]:
    """Maps detections from the canvas back to the original images, clipped to them.

    Args:
        batch: what was predicted on; its invalid examples are left out.
        detections: what `predict` returned for it, as numpy or jax arrays.

    Returns:
        One entry for each valid example, in order.
    """
    found = []
    for b in np.flatnonzero(np.asarray(batch.example_valid)):
        keep = np.asarray(detections.valid[b])
        height, width = np.asarray(batch.original_size[b])
        boxes = np.asarray(detections.boxes[b])[keep] / np.tile(np.asarray(batch.scale[b]), 2)
        limits = np.array([width, height, width, height], np.float32)
        found.append(
            ImageDetections(
                int(batch.id[b]),
                np.clip(boxes, 0, limits).astype(np.float32),
                np.asarray(detections.scores[b])[keep],
                np.asarray(detections.labels[b])[keep],
            )
        )
    return found
