"""Records and predictions for evaluators, built from plain lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from tests.batches import detection_of, instances_of
from vision_jax.data.records import DetectionRecord
from vision_jax.types import DetectionBatch, Detections, InstanceBatch, Instances

Found = tuple[Sequence[Sequence[float]], Sequence[float], Sequence[int]]


def make_record(
    id: int,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    ignore: Sequence[bool] = (),
    size=(480, 640),
) -> DetectionRecord:
    array = np.array(boxes, np.float64).reshape(-1, 4)
    area = (array[:, 2] - array[:, 0]) * (array[:, 3] - array[:, 1])
    flags = np.array(ignore, bool) if len(ignore) else np.zeros(len(array), bool)
    return DetectionRecord(id, f"{id}.jpg", *size, array, np.array(labels, np.int32), flags, area)


def make_predictions(
    records: Sequence[DetectionRecord], found: Sequence[Found], slots: int = 100, scale: float = 1.0
) -> tuple[DetectionBatch, Detections]:
    """A batch of the records on a canvas `scale` times as large, and detections given in original pixels."""
    b = len(records)
    boxes, scores = np.zeros((b, slots, 4), np.float32), np.zeros((b, slots), np.float32)
    labels, valid = np.full((b, slots), -1, np.int32), np.zeros((b, slots), bool)
    for i, (box, confidence, label) in enumerate(found):
        n = len(confidence)
        boxes[i, :n] = np.array(box, np.float32).reshape(-1, 4) * scale
        scores[i, :n], labels[i, :n], valid[i, :n] = confidence, label, True
    sizes = np.array([(r.height, r.width) for r in records], np.int32).reshape(-1, 2)
    batch = detection_of(
        np.zeros((b, 8, 8, 3), np.uint8),
        np.zeros((b, 1, 4)),
        np.full((b, 1), -1),
        (sizes * scale).astype(np.int32),
        id=np.array([r.id for r in records], np.int32),
        scale=np.full((b, 2), scale, np.float32),
        original_size=sizes,
    )
    return batch, Detections(boxes, scores, labels, valid)


class BitmapSource:
    """A source of given records with bitmaps; reading pixels is an error."""

    def __init__(self, records, masks, classes=("a", "b", "c")):
        self.records, self.classes, self._masks = records, classes, masks

    def __len__(self):
        return len(self.records)

    def record(self, index):
        return self.records[index]

    def image(self, index):
        raise AssertionError("evaluation needs no pixels")

    def masks(self, index):
        return self._masks[index]


class CocoShapesSource(BitmapSource):
    """One that gives COCO's own shapes; its bitmaps must not be asked for."""

    def __init__(self, records, shapes):
        super().__init__(records, [])
        self.shapes = shapes

    def masks(self, index):
        raise AssertionError("COCO's own shapes go first")

    def segmentations(self, index):
        return self.shapes[index]


def as_instances(batch, detections, masks):
    """Detections with their masks [n, m, m], given for each image."""
    b, slots = detections.valid.shape
    padded = np.zeros((b, slots, *masks[0].shape[1:]), np.float32)
    for i, each in enumerate(masks):
        padded[i, : len(each)] = each
    return instances_of(batch, np.zeros((b, 1, 2, 2))), Instances(**vars(detections), masks=padded)


@pytest.fixture
def instances() -> Callable[..., tuple[InstanceBatch, Instances]]:
    return as_instances


@pytest.fixture
def bitmap_source() -> type[BitmapSource]:
    return BitmapSource


@pytest.fixture
def coco_shapes_source() -> type[CocoShapesSource]:
    return CocoShapesSource


@pytest.fixture
def record() -> Callable[..., DetectionRecord]:
    return make_record


@pytest.fixture
def predictions() -> Callable[..., tuple[DetectionBatch, Detections]]:
    return make_predictions


def crowded_split(seed: int, images: int = 12, classes: int = 3) -> tuple[list[DetectionRecord], list[Found]]:
    """Random truth of all sizes with crowds and empty images; detections near it, duplicated, invented, tied.

    Image 0 has 130 detections of one class.
    """
    rng = np.random.default_rng(seed)
    records, found = [], []
    for id in range(images):
        n = 0 if id % 5 == 4 else int(rng.integers(1, 14))
        corner = rng.random((n, 2)) * [400, 300]
        side = np.exp(rng.uniform(np.log(8), np.log(170), (n, 2)))
        boxes = np.concatenate([corner, corner + side], axis=1)
        labels = rng.integers(0, classes, n)
        records.append(make_record(3 * id + 7, boxes.tolist(), labels.tolist(), rng.random(n) < 0.2))
        records[-1].area[:] *= 0.6  # as of a mask: the box's own area would put some in another range
        copies = rng.integers(0, 4, n)
        near = np.repeat(boxes, copies, axis=0)
        near += rng.normal(0, 0.08, near.shape) * np.tile(np.repeat(side, copies, axis=0), 2)
        extra = 130 if id == 0 else int(rng.integers(0, 9))
        start = rng.random((extra, 2)) * [500, 350]
        invented = np.concatenate([start, start + rng.random((extra, 2)) * 90 + 4], axis=1)
        every = np.clip(np.concatenate([near, invented]), 0, [640, 480, 640, 480])
        kinds = np.concatenate(
            [np.repeat(labels, copies), np.zeros(extra, int) if id == 0 else rng.integers(0, classes, extra)]
        )
        flip = rng.random(len(kinds)) < 0.1
        kinds = np.where(flip, rng.integers(0, classes, len(kinds)), kinds)
        found.append((every.tolist(), rng.random(len(every)).round(2).tolist(), kinds.tolist()))
    return records, found


@pytest.fixture
def split() -> Callable[..., tuple[list[DetectionRecord], list[Found]]]:
    return crowded_split
