"""Batches of every kind, of noise: small, uneven, the same at every call."""

from __future__ import annotations

import numpy as np

from vision_jax.types import ClassificationBatch, DetectionBatch, InstanceBatch, SegmentationBatch

OBJECTS = 6
_COUNTS = (0, 6, 1, 3, 0, 2, 5, 1)  # objects of successive images: very different numbers on each device


def classification(images: int, side: int = 16, classes: int = 3) -> ClassificationBatch:
    """Labeled images; every third, the first one too, is padding."""
    rng = np.random.default_rng(0)
    return ClassificationBatch(
        image=rng.integers(0, 256, (images, side, side, 3)).astype(np.uint8),
        labels=rng.integers(0, classes, images).astype(np.int32),
        id=rng.permutation(1000)[:images].astype(np.int32),
        example_valid=np.arange(images) % 3 > 0,
    )


def segmentation(images: int, height: int = 30, width: int = 45, classes: int = 3) -> SegmentationBatch:
    """Images with random labels, more and more of them void from image to image."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, (images, height, width)).astype(np.int32)
    void = rng.random(labels.shape) < np.linspace(0.1, 0.9, images)[:, None, None]
    return SegmentationBatch(
        image=rng.integers(0, 256, (images, height, width, 3)).astype(np.uint8),
        size=np.tile(np.array([height, width], np.int32), (images, 1)),
        labels=np.where(void, -1, labels).astype(np.int32),
        id=rng.permutation(1000)[:images].astype(np.int32),
        original_size=np.tile(np.array([height, width], np.int32), (images, 1)),
        example_valid=np.ones(images, bool),
    )


def detection(images: int, side: int = 64, classes: int = 3) -> DetectionBatch:
    """Images with 0 to 6 boxes of 10 to 26 pixels."""
    rng = np.random.default_rng(0)
    count = np.resize(_COUNTS, images)
    corner = rng.uniform(0, max(2, side - 28), (images, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 26, (images, OBJECTS, 2))], -1)
    valid = np.arange(OBJECTS) < count[:, None]
    return DetectionBatch(
        image=rng.integers(0, 255, (images, side, side, 3)).astype(np.uint8),
        size=np.full((images, 2), side, np.int32),
        boxes=boxes.astype(np.float32),
        labels=np.where(valid, rng.integers(0, classes, valid.shape), -1).astype(np.int32),
        valid=valid,
        ignore=np.zeros_like(valid),
        id=rng.permutation(1000)[:images].astype(np.int32),
        scale=np.ones((images, 2), np.float32),
        original_size=np.full((images, 2), side, np.int32),
        example_valid=np.ones(images, bool),
    )


def instances(images: int, side: int = 64, classes: int = 3) -> InstanceBatch:
    """The same with random masks of 14 x 14 cells in the boxes."""
    batch = detection(images, side, classes)
    masks = np.random.default_rng(1).random((images, OBJECTS, 14, 14)) < 0.6
    return InstanceBatch(
        **vars(batch),
        masks=np.where(batch.valid[..., None, None], 255 * masks, 0).astype(np.uint8),
        frames=batch.boxes,
    )
