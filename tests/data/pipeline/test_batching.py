"""Padding, partial batches, too many objects, and the check of a batch against its struct."""

import numpy as np
import pytest

from vision_jax.data.examples import ClassificationExample, DetectionExample, SegmentationExample
from vision_jax.data.fields.image import Image
from vision_jax.data.fields.label_map import LabelMap
from vision_jax.data.fields.objects import Objects
from vision_jax.data.pipeline.batching import (
    check,
    classification_batch,
    count_objects,
    detection_batch,
    segmentation_batch,
)
from vision_jax.data.records import DetectionRecord
from vision_jax.types import UserError


def detection(id, shape, count, ignore=(), original=None):
    boxes = np.array([[i, 0, i + 2, 3] for i in range(count)], np.float32).reshape(-1, 4)
    original = original or (2 * shape[0], 2 * shape[1])
    image = Image(np.full((*shape, 3), id + 1, np.uint8), original, scale=(0.5, 0.5))
    numbers = np.arange(count, dtype=np.int32)
    return DetectionExample(id, image, Objects(boxes, numbers, np.isin(numbers, ignore)))


def test_detection_batch_by_hand():
    batch = check(
        detection_batch([detection(4, (6, 8), 2, ignore=[1]), detection(9, (5, 8), 0)], (6, 8), 3, 3)
    )
    assert batch.image.shape == (3, 6, 8, 3)
    np.testing.assert_array_equal(batch.size, [[6, 8], [5, 8], [6, 8]])
    assert (batch.image[0] == 5).all()
    assert (batch.image[1, :5] == 10).all()
    assert not batch.image[1, 5:].any()
    assert not batch.image[2].any()
    np.testing.assert_array_equal(batch.boxes[0], [[0, 0, 2, 3], [1, 0, 3, 3], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.labels, [[0, 1, -1], [-1, -1, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(batch.valid, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(batch.ignore, [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(batch.id, [4, 9, -1])
    np.testing.assert_array_equal(batch.example_valid, [True, True, False])
    np.testing.assert_array_equal(batch.scale, [[0.5, 0.5], [0.5, 0.5], [1, 1]])
    np.testing.assert_array_equal(batch.original_size, [[12, 16], [10, 16], [6, 8]])


def test_canvas_turns_and_a_mixed_batch_gets_one_that_holds_both():
    landscape, portrait = detection(0, (6, 8), 0), detection(1, (8, 6), 0)
    assert detection_batch([portrait], (6, 8), 1, 1).image.shape == (1, 8, 6, 3)
    assert detection_batch([landscape], (8, 6), 1, 1).image.shape == (1, 6, 8, 3)
    assert detection_batch([landscape, portrait], (6, 8), 1, 2).image.shape == (2, 8, 8, 3)


def test_no_box_is_dropped_silently():
    with pytest.raises(UserError, match=r"image 17 has 5 boxes.*max_objects=4.*raise max_objects to 5"):
        detection_batch([detection(17, (6, 8), 5)], (6, 8), 4, 1)
    with pytest.raises(ValueError, match="image 17 is 9x8, larger than the canvas"):
        detection_batch([detection(17, (9, 8), 0, original=(9, 10))], (6, 8), 4, 1)


def test_segmentation_batch_by_hand():
    example = SegmentationExample(
        2, Image(np.full((2, 3, 3), 9, np.uint8), (4, 6)), LabelMap(np.ones((2, 3), np.int32))
    )
    batch = check(segmentation_batch([example], (3, 4), 2))
    np.testing.assert_array_equal(batch.labels[0], [[1, 1, 1, -1], [1, 1, 1, -1], [-1, -1, -1, -1]])
    assert (batch.labels[1] == -1).all()
    np.testing.assert_array_equal(batch.size, [[2, 3], [3, 4]])
    np.testing.assert_array_equal(batch.original_size[0], [4, 6])
    np.testing.assert_array_equal(batch.id, [2, -1])
    np.testing.assert_array_equal(batch.example_valid, [True, False])


def test_classification_batch_by_hand():
    example = ClassificationExample(5, Image.original(np.full((4, 4, 3), 9, np.uint8)), 3)
    batch = check(classification_batch([example], (4, 4), 2))
    np.testing.assert_array_equal(batch.labels, [3, -1])
    np.testing.assert_array_equal(batch.id, [5, -1])
    np.testing.assert_array_equal(batch.example_valid, [True, False])
    np.testing.assert_array_equal(batch.image.max((1, 2, 3)), [9, 0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image", np.zeros((2, 6, 8, 3), np.float32), r"DetectionBatch.image is float32, should be uint8"),
        ("labels", np.zeros((2, 3), np.int64), r"DetectionBatch.labels is int64, should be int32"),
        ("labels", np.zeros((2, 4), np.int32), r"labels has shape \(2, 4\), should be \[b, n\] with n=3"),
        ("boxes", np.zeros((2, 3, 5), np.float32), r"boxes has shape \(2, 3, 5\), should be \[b, n, 4\]"),
        ("id", np.zeros((2, 1), np.int32), r"id has shape \(2, 1\), should be \[b\]"),
        ("id", np.zeros((3,), np.int32), r"id has shape \(3,\), should be \[b\] with b=2 as in .*image"),
        ("id", [0, 1], r"id is list, should be int32"),
    ],
)
def test_check_names_the_field_and_what_it_should_be(field, value, message):
    batch = detection_batch([detection(0, (6, 8), 1)], (6, 8), 3, 2)
    with pytest.raises(TypeError, match=message):
        check(batch.replace(**{field: value}))


class Records:
    """A source of nothing but records."""

    classes = ("a",)

    def __init__(self, counts):
        self.counts = counts

    def __len__(self):
        return len(self.counts)

    def record(self, index):
        n = self.counts[index]
        boxes = np.tile(np.float64([0, 0, 1, 1]), (n, 1))
        return DetectionRecord(index, "", 9, 9, boxes, np.zeros(n, np.int32), np.zeros(n, bool), np.ones(n))

    def image(self, index):
        raise AssertionError("counting reads no pixels")


def test_objects_are_counted_over_all_images():
    assert count_objects(Records([0, 7, 2])) == 7
    assert count_objects(Records([0])) == 1
    assert count_objects(Records([])) == 1
