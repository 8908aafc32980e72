"""Pictures of masks: where they are filled and outlined, in which color, and what stays a box."""

import numpy as np
import pytest

from tests.batches import detection_of, instances_of
from vision_jax.types import Instances
from vision_jax.visualization import plot_boxes, plot_instance_batch, plot_instances
from vision_jax.visualization.canvas import class_colors
from vision_jax.visualization.detection.masks import instance_colors, plot_masks, stretch
from vision_jax.visualization.detection.pictures import ImageObjects

CLASSES = ("cat", "dog")
GRAY = 100
SIZE = (120, 160)


def gray():
    return np.full((*SIZE, 3), GRAY, np.uint8)


def count(picture, color):
    return int((picture == np.asarray(color, np.uint8)).all(axis=-1).sum())


def mixed(color):
    return np.rint(0.55 * GRAY + 0.45 * color.astype(float)).astype(np.uint8)


def objects_of(boxes, labels, scores=None, ignore=None):
    n = len(boxes)
    return ImageObjects(
        np.arange(n),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int32),
        None if scores is None else np.array(scores, np.float32),
        np.zeros(n, bool) if ignore is None else np.array(ignore),
    )


def left_half(height, width):
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask


def test_a_mask_is_filled_and_outlined_and_its_box_is_not_plotted():
    objects = objects_of([[40, 30, 120, 90]], [1])
    picture = plot_masks(gray(), objects, [(left_half(60, 80), (30, 40))], CLASSES)
    color = class_colors(2)[1]
    assert (picture[35:85, 45:75] == mixed(color)).all()
    assert (picture[40:80, 40] == color).all()
    assert (picture[40:80, 79] == color).all()
    assert (picture[25:95, 84:] == GRAY).all()
    assert (picture[95:] == GRAY).all()


def test_weak_ignored_and_shapeless_objects_are_boxes_alone():
    boxes = [[10, 10, 60, 60]]
    full, empty = (np.ones((50, 50), bool), (10, 10)), (np.zeros((50, 50), bool), (10, 10))
    for scores, ignore, mask in ((None, [True], full), (None, [False], empty), ([0.4], [False], full)):
        objects = objects_of(boxes, [0], scores, ignore)
        picture = plot_masks(gray(), objects, [mask], CLASSES)
        boxed = plot_boxes(gray(), objects.boxes, objects.labels, objects.scores, CLASSES, objects.ignore)
        np.testing.assert_array_equal(picture, boxed)
        assert (picture[15:55, 15:55] == GRAY).all()
    strong = plot_masks(gray(), objects_of(boxes, [0], [0.6]), [full], CLASSES)
    assert (strong[15:55, 15:55] == mixed(class_colors(2)[0])).all()


def test_a_smaller_mask_lies_over_a_larger_one():
    objects = objects_of([[10, 10, 50, 50], [0, 0, 100, 100]], [0, 1])
    masks = [(np.ones((40, 40), bool), (10, 10)), (np.ones((100, 100), bool), (0, 0))]
    picture = plot_masks(gray(), objects, masks, CLASSES)
    small, large = class_colors(2).astype(float)
    under = mixed(large)
    assert (picture[80, 80] == under).all()
    np.testing.assert_allclose(picture[30, 30], 0.55 * under + 0.45 * small, atol=0.51)


def test_objects_of_one_class_that_touch_differ_in_shade():
    row = [[40 * i, 0, 40 * i + 41, 40] for i in range(4)]
    colors = instance_colors(np.array([*row, *row], np.float32), np.repeat([0, 1], 4), 2)
    assert len(np.unique(colors, axis=0)) == 8
    np.testing.assert_array_equal(colors[[0, 4]], class_colors(2))
    # A shade that the touching objects have not, though it is not the next in turn.
    far = [[500 + 50 * i, 0, 520 + 50 * i, 20] for i in range(4)]
    colors = instance_colors(
        np.array([[0, 0, 10, 10], *far, [5, 5, 15, 15]], np.float32), np.zeros(6, int), 1
    )
    assert (colors[0] != colors[5]).any()
    assert instance_colors(np.zeros((0, 4), np.float32), np.zeros(0, int), 2).shape == (0, 3)


def test_a_mask_is_stretched_over_its_frame():
    # 4 x 2 cells over x 10 to 50, y 20 to 40, the left two columns full: the edge is half way, at x = 30.
    mask = np.array([[255, 255, 0, 0]] * 2, np.uint8)
    window, corner = stretch(mask, np.array([10, 20, 50, 40], np.float32), SIZE)
    assert corner == (20, 10)
    np.testing.assert_array_equal(window, left_half(20, 40))
    # Pixel 10 has its center, 10.5, in the frame; pixel 50 has not.
    window, corner = stretch(mask, np.array([10.4, 19.6, 50.4, 39.6], np.float32), SIZE)
    assert corner == (20, 10)
    assert window.shape == (20, 40)
    # A full bitmap's frame is the canvas: each pixel is its cell.
    bitmap = np.random.default_rng(0).random(SIZE) < 0.5
    window, corner = stretch(bitmap * np.uint8(255), np.array([0, 0, 160, 120], np.float32), SIZE)
    assert corner == (0, 0)
    np.testing.assert_array_equal(window, bitmap)
    # Over the border the rest is cut off; outside nothing is left.
    window, corner = stretch(mask, np.array([-20, 110, 20, 130], np.float32), SIZE)
    assert corner == (110, 0)
    np.testing.assert_array_equal(window, np.zeros((10, 20), bool))
    window, _ = stretch(mask, np.array([200, 0, 240, 20], np.float32), SIZE)
    assert window.size == 0


def make_batch(examples=2, valid=True):
    """Copies of a gray image with a dog in the left half of its box and a cat of unknown shape."""
    masks = np.zeros((examples, 3, 8, 8), np.uint8)
    masks[:, 0, :, :4] = 255
    boxes = np.tile(
        np.array([[20, 20, 80, 80], [100, 10, 150, 80], [0, 0, 0, 0]], np.float32), (examples, 1, 1)
    )
    image = np.zeros((examples, *SIZE, 3), np.uint8)
    image[:, :90] = GRAY
    labels, there = np.tile([1, 0, -1], (examples, 1)), np.tile([valid, valid, False], (examples, 1))
    batch = detection_of(image, boxes, labels, (90, 160), valid=there)
    return instances_of(batch, masks, np.maximum(boxes, [0, 0, 1, 1]))


def make_instances(examples=2):
    """The dog found whole, in the second slot, after one that is not valid; a cat with a low score."""
    masks = np.ones((examples, 3, 14, 14), np.float32)
    masks[:, 0] = 0
    boxes = np.array([[0, 0, 160, 90], [20, 20, 80, 80], [100, 10, 150, 80]], np.float32)
    return Instances(
        np.tile(boxes, (examples, 1, 1)),
        np.tile(np.array([0.9, 0.8, 0.3], np.float32), (examples, 1)),
        np.tile(np.array([0, 1, 0], np.int32), (examples, 1)),
        np.tile([False, True, True], (examples, 1)),
        masks,
    )


def test_a_batch_shows_the_masks_on_the_whole_canvas():
    picture = plot_instance_batch(make_batch(), CLASSES)
    dog = mixed(class_colors(2)[1])
    # Shown three times as large, in two cells of 480 pixels; the mask has half of 180 x 180, less its line.
    assert picture.shape[1] == 2 * 16 + 2 * 480 + 10
    assert 0.85 < count(picture, dog) / (2 * 90 * 180) <= 1
    assert count(picture, mixed(class_colors(2)[0])) == 0
    one = plot_instance_batch(make_batch(), CLASSES, most=1)
    assert count(one, dog) * 2 == count(picture, dog)


@pytest.mark.parametrize("truth", [True, False])
def test_truth_stands_beside_prediction_or_prediction_alone(truth):
    picture = plot_instances(make_batch(valid=truth), make_instances(), CLASSES)
    dog = mixed(class_colors(2)[1])
    assert picture.shape[1] == 2 * 16 + (4 * 480 + 30 if truth else 2 * 480 + 10)
    expected = 2 * 180 * 180 + (2 * 90 * 180 if truth else 0)
    assert 0.85 < count(picture, dog) / expected <= 1
    assert count(picture, mixed(class_colors(2)[0])) == 0
