"""Batches of every kind: of given arrays, and of noise.

What a factory of given arrays is not told is what most batches have: ids in order, no padding, nothing
scaled. Those of noise are small, uneven, and the same at every call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vision_jax.types import ClassificationBatch, DetectionBatch, InstanceBatch, SegmentationBatch

OBJECTS = 6
_COUNTS = (0, 6, 1, 3, 0, 2, 5, 1)  # objects of successive images: very different numbers on each device


def _sizes(size: Any, image: Any) -> np.ndarray:
    """[B, 2] of one size, of a size for each image, or of the canvas."""
    return np.broadcast_to(np.asarray(image.shape[1:3] if size is None else size, np.int32), (len(image), 2))


def classification_of(image: Any, labels: Any, **fields: Any) -> ClassificationBatch:
    """Images [B, H, W, 3] with a label each."""
    count = len(image)
    given = {"id": np.arange(count, dtype=np.int32), "example_valid": np.ones(count, bool), **fields}
    return ClassificationBatch(image=image, labels=np.asarray(labels, np.int32), **given)


def segmentation_of(image: Any, labels: Any, size: Any = None, **fields: Any) -> SegmentationBatch:
    """Images [B, H, W, 3] with label maps [B, H, W]; `size` is that of the content, of the canvas if None."""
    count, sizes = len(image), _sizes(size, image)
    given = {
        "size": sizes,
        "original_size": sizes,
        "id": np.arange(count, dtype=np.int32),
        "example_valid": np.ones(count, bool),
        **fields,
    }
    return SegmentationBatch(image=image, labels=np.asarray(labels, np.int32), **given)


def detection_of(image: Any, boxes: Any, labels: Any, size: Any = None, **fields: Any) -> DetectionBatch:
    """Images [B, H, W, 3] with boxes [B, N, 4], valid where their label is not negative."""
    count, sizes, labels = len(image), _sizes(size, image), np.asarray(labels, np.int32)
    given = {
        "size": sizes,
        "original_size": sizes,
        "scale": np.ones((count, 2), np.float32),
        "valid": labels >= 0,
        "ignore": np.zeros(labels.shape, bool),
        "id": np.arange(count, dtype=np.int32),
        "example_valid": np.ones(count, bool),
        **fields,
    }
    return DetectionBatch(image=image, boxes=np.asarray(boxes, np.float32), labels=labels, **given)


def instances_of(batch: DetectionBatch, masks: Any, frames: Any = None) -> InstanceBatch:
    """The same with masks [B, N, h, w] in `frames` [B, N, 4], the boxes if None."""
    frames = batch.boxes if frames is None else np.asarray(frames, np.float32)
    return InstanceBatch(**vars(batch), masks=np.asarray(masks, np.uint8), frames=frames)


def classification(images: int, side: int = 16, classes: int = 3) -> ClassificationBatch:
    """Labeled images; every third, the first one too, is padding."""
    rng = np.random.default_rng(0)
    return classification_of(
        rng.integers(0, 256, (images, side, side, 3)).astype(np.uint8),
        rng.integers(0, classes, images),
        id=rng.permutation(1000)[:images].astype(np.int32),
        example_valid=np.arange(images) % 3 > 0,
    )


def segmentation(images: int, height: int = 30, width: int = 45, classes: int = 3) -> SegmentationBatch:
    """Images with random labels, more and more of them void from image to image."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, (images, height, width))
    void = rng.random(labels.shape) < np.linspace(0.1, 0.9, images)[:, None, None]
    return segmentation_of(
        rng.integers(0, 256, (images, height, width, 3)).astype(np.uint8),
        np.where(void, -1, labels),
        id=rng.permutation(1000)[:images].astype(np.int32),
    )


def detection(images: int, side: int = 64, classes: int = 3) -> DetectionBatch:
    """Images with 0 to 6 boxes of 10 to 26 pixels."""
    rng = np.random.default_rng(0)
    count = np.resize(_COUNTS, images)
    corner = rng.uniform(0, max(2, side - 28), (images, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 26, (images, OBJECTS, 2))], -1)
    valid = np.arange(OBJECTS) < count[:, None]
    return detection_of(
        rng.integers(0, 255, (images, side, side, 3)).astype(np.uint8),
        boxes,
        np.where(valid, rng.integers(0, classes, valid.shape), -1),
        id=rng.permutation(1000)[:images].astype(np.int32),
    )


def instances(images: int, side: int = 64, classes: int = 3) -> InstanceBatch:
    """The same with random masks of 14 x 14 cells in the boxes."""
    batch = detection(images, side, classes)
    masks = np.random.default_rng(1).random((images, OBJECTS, 14, 14)) < 0.6
    return instances_of(batch, np.where(batch.valid[..., None, None], 255 * masks, 0))
