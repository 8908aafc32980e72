"""Instance segmentation: detection with a mask for each object.

A mask is stored as an array of its own and a *frame*, the rectangle of the canvas that the array covers.
The frame of a box-relative crop (112x112, say) is its object's box; that of a full bitmap is the canvas.
Resizing, flipping and cropping an image changes frames, and never resamples a mask.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, UInt8

from vision_jax.types.detection import (
    DetectionBatch,
    Detections,
    to_original,
)


@struct.dataclass
class InstanceBatch(DetectionBatch):
    """Images on one canvas with their boxes and masks, padded to N objects an image.

    Attributes:
        masks: uint8, each object's coverage of the cells of its frame, 0 to 255; all 0 where padded, and
            where no shape is known.
        frames: float32, (x1, y1, x2, y2) in canvas pixels: what each mask covers.
    """

    masks: UInt8[Array, "b n mh mw"]
    frames: Float[Array, "b n 4"]


@struct.dataclass
class Instances(Detections):
    """Objects found, padded to D an image, best first, in canvas pixels.

    Attributes:
        masks: float32 in 0..1, the probability that a cell of the box belongs to the object.
    """

    masks: Float[Array, "b d m m"]


class ImageInstances(NamedTuple):
    """One image's objects, without padding, in the original image's pixels: numpy.

    Attributes:
        id: the example's id.
        boxes: float32, (x1, y1, x2, y2), x2 and y2 exclusive.
        scores: float32 in 0..1.
        labels: int32, 0..K-1.
        masks: float32 in 0..1, the probability that a cell of the box belongs to the object.
    """

    id: int
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    masks: Float[np.ndarray, "n m m"]


def instances_to_original(batch: DetectionBatch, instances: Instances) -> list[ImageInstances]:
    """Maps objects from the canvas back to the original images; masks are relative to their boxes in both.

    Args:
        batch: what was predicted on; its invalid examples are left out.
        instances: what `predict` returned for it, as numpy or jax arrays.

    Returns:
        One entry for each valid example, in order.
    """
    present = np.flatnonzero(np.asarray(batch.example_valid))
    return [
        ImageInstances(*found, np.asarray(instances.masks[b])[np.asarray(instances.valid[b])])
        for b, found in zip(present, to_original(batch, instances), strict=True)
    ]
