"""Pictures of boxes: what is plotted where, in which color, and what is left alone."""

import numpy as np
import pytest

from tests.batches import detection_of
from vision_jax.types import Detections
from vision_jax.visualization import plot_boxes, plot_detection_batch, plot_detections
from vision_jax.visualization.canvas import class_colors
from vision_jax.visualization.detection.boxes import tag

CLASSES = ("cat", "dog")
GRAY = 100


def gray(height=120, width=160):
    return np.full((height, width, 3), GRAY, np.uint8)


def count(picture, color):
    return int((picture == np.asarray(color, np.uint8)).all(axis=-1).sum())


def boxes_of(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def make_batch(boxes, labels, valid, ignore=None, size=(90, 160), examples=2):
    """Copies of one gray image of `size` on a 120 x 160 canvas."""
    boxes = np.tile(boxes_of(*boxes), (examples, 1, 1))
    valid = np.tile(np.array(valid, bool), (examples, 1))
    image = np.zeros((examples, 120, 160, 3), np.uint8)
    image[:, : size[0], : size[1]] = GRAY
    ignored = np.zeros_like(valid) if ignore is None else np.tile(np.array(ignore), (examples, 1))
    return detection_of(image, boxes, np.tile(labels, (examples, 1)), size, valid=valid, ignore=ignored)


def make_detections(boxes, scores, labels, examples=2):
    valid = np.ones((examples, len(scores)), bool)
    return Detections(
        np.tile(boxes_of(*boxes), (examples, 1, 1)),
        np.tile(np.array(scores, np.float32), (examples, 1)),
        np.tile(np.array(labels, np.int32), (examples, 1)),
        valid,
    )


def test_a_solid_box_is_plotted_on_its_border_and_nowhere_else():
    image = gray()
    picture = plot_boxes(image, boxes_of([40, 50, 100, 90]), np.array([1]), None, CLASSES)
    color = class_colors(2)[1]
    assert (image == GRAY).all()
    for y, x in ((70, 40), (70, 41), (70, 99), (50, 80), (89, 70), (88, 70)):
        np.testing.assert_array_equal(picture[y, x], color)
    assert (picture[53:87, 43:97] == GRAY).all()
    assert (picture[:, :38] == GRAY).all()
    assert (picture[92:] == GRAY).all()


def test_enlarging_moves_the_box_along():
    picture = plot_boxes(gray(), boxes_of([40, 50, 100, 90]), np.array([0]), None, CLASSES, scale=2.5)
    assert picture.shape == (300, 400, 3)
    color = class_colors(2)[0]
    for y, x in ((175, 100), (175, 249), (125, 200), (224, 200)):
        np.testing.assert_array_equal(picture[y, x], color)


def test_weak_detections_are_thin_unnamed_and_few():
    box, label = boxes_of([40, 50, 100, 90]), np.array([0])
    color = class_colors(2)[0]
    weak = plot_boxes(gray(), box, label, np.array([0.4], np.float32), CLASSES)
    # One pixel all around 60 x 40, and no text above.
    assert count(weak, color) == 2 * (60 + 40) - 4
    assert (weak != GRAY).any(axis=-1).sum() == 2 * (60 + 40) - 4
    weakest = plot_boxes(gray(), box, label, np.array([0.09], np.float32), CLASSES)
    assert (weakest == GRAY).all()
    many = np.array([[2 + 12 * i, 20, 10 + 12 * i, 100] for i in range(12)], np.float32)
    scores = np.linspace(0.15, 0.45, 12).astype(np.float32)
    picture = plot_boxes(gray(), many, np.zeros(12, int), scores, CLASSES)
    np.testing.assert_array_equal((picture[60] != GRAY).any(axis=-1).nonzero()[0][:2], [26, 33])


def test_ignored_boxes_are_dashed():
    solid, dashed = (
        plot_boxes(gray(), boxes_of([20, 20, 140, 100]), np.array([0]), None, CLASSES, np.array([flag]))
        for flag in (False, True)
    )
    color = class_colors(2)[0]
    along_top = (dashed[20, 20:140] == color).all(axis=-1)
    assert 0.4 < along_top.mean() < 0.8
    assert count(dashed, color) < 0.6 * count(solid, color)


def test_names_never_cover_one_another_and_stay_inside():
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(0)
    page = Image.fromarray(gray(200, 300))
    placed = []
    for _ in range(60):
        x, y = rng.random(2) * [280, 180]
        tag(ImageDraw.Draw(page), page.size, np.array([x, y, x + 20, y + 20]), "cat .87", (255, 0, 0), placed)
    assert 10 < len(placed) < 60
    for i, a in enumerate(placed):
        assert a[0] >= -1
        assert a[1] >= 0
        assert a[2] <= 301
        assert a[3] <= 200
        for b in placed[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_batch_is_shown_with_hatched_padding_and_without_invalid_examples():
    batch = make_batch([[20, 20, 80, 80], [0, 0, 0, 0]], [1, -1], [True, False])
    both = plot_detection_batch(batch, CLASSES)
    one = plot_detection_batch(batch.replace(example_valid=np.array([True, False])), CLASSES)
    # 120 x 160 is shown three times as large.
    assert both.shape[1] == one.shape[1] + 480 + 10
    assert count(both, class_colors(2)[1]) > 1.5 * count(one, class_colors(2)[1])
    assert count(both, (0, 0, 0)) < 100
    assert count(both, (GRAY,) * 3) > 2 * 0.7 * 480 * 270


def test_truth_stands_beside_prediction_or_prediction_alone():
    batch = make_batch([[20, 20, 80, 80]], [1], [True])
    found = make_detections([[20, 20, 80, 80], [90, 10, 150, 80]], [0.9, 0.8], [0, 0])
    pairs = plot_detections(batch, found, CLASSES)
    alone = plot_detections(batch.replace(valid=np.zeros_like(batch.valid)), found, CLASSES)
    assert pairs.shape[1] == 2 * 16 + 4 * 480 + 3 * 10
    assert alone.shape[1] == 2 * 16 + 2 * 480 + 10
    first, second = class_colors(2)
    legend = 20 * 20
    assert count(alone, second) < legend < count(alone, first)
    assert count(pairs, second) > 2 * legend
    # Left of the pair is truth: only the second class there.
    left = pairs[:300, 16 : 16 + 480]
    assert count(left, first) == 0
    assert count(left, second) > legend


@pytest.mark.parametrize("examples", [1, 3])
def test_at_most_so_many_images_are_plotted(examples):
    batch = make_batch([[20, 20, 80, 80]], [1], [True], examples=5)
    found = make_detections([[20, 20, 80, 80]], [0.9], [0], examples=5)
    wide = plot_detections(batch, found, CLASSES, most=examples)
    assert wide.shape[1] == 2 * 16 + (2 if examples == 1 else 4) * 480 + (1 if examples == 1 else 3) * 10


def test_no_boxes_at_all():
    batch = make_batch([[0, 0, 0, 0]], [-1], [False])
    found = make_detections([[0, 0, 0, 0]], [0.0], [-1])
    found = found.replace(valid=np.zeros_like(found.valid))
    picture = plot_detections(batch, found, CLASSES)
    # Nothing is plotted on the images; letters below may hold a few pixels of the same gray.
    assert 2 * 480 * 270 <= count(picture, (GRAY,) * 3) < 2 * 480 * 270 + 100
