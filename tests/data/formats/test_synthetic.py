"""Synthetic scenes: exact masks, tight boxes, half-hidden at most, repeatable, and fair to all classes."""

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.data.formats.synthetic.digits import Digits
from vision_jax.data.formats.synthetic.scenes import SyntheticScenes
from vision_jax.data.formats.synthetic.shapes import CLASSES, random_shape, rasterize
from vision_jax.data.open import open_classification
from vision_jax.types import UserError


@pytest.fixture(scope="module")
def scenes():
    return SyntheticScenes(60)


def test_boxes_and_areas_are_those_of_the_visible_masks(scenes):
    for index in range(20):
        record, masks = scenes.record(index), scenes.masks(index)
        assert masks.shape == (len(record.boxes), 256, 256)
        assert masks.sum(0).max() <= 1
        for mask, box, area in zip(masks, record.boxes, record.area, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert mask.sum() == area > 0


def test_no_object_is_more_than_half_hidden_and_some_are_hidden(scenes):
    hidden = []
    for index in range(60):
        layout, record = scenes._layout(index), scenes.record(index)
        full = np.array([np.count_nonzero(placed.inside) for placed in layout.placed])
        hidden.extend(1 - record.area / full)
    assert max(hidden) <= 0.5
    assert max(hidden) > 0.3
    assert np.mean(np.array(hidden) > 0.02) > 0.1


def test_counts_sizes_and_classes_cover_what_is_promised():
    scenes = SyntheticScenes(300, seed=5)
    records = [scenes.record(index) for index in range(300)]
    counts = Counter(len(record.boxes) for record in records)
    assert min(counts) == 1
    assert max(counts) == 8 == scenes.max_objects
    sizes = np.concatenate([np.max(r.boxes[:, 2:] - r.boxes[:, :2], axis=1) for r in records])
    assert sizes.max() <= 130
    assert np.quantile(sizes, 0.02) == pytest.approx(16, abs=4)
    assert np.quantile(sizes, 0.98) == pytest.approx(122, abs=10)
    labels = np.bincount(np.concatenate([record.labels for record in records]), minlength=7)
    assert labels.min() > 0.1 * labels.sum()
    assert [record.id for record in records] == list(range(300))
    assert not any(record.ignore.any() for record in records)


def test_scenes_depend_on_seed_and_index_only(scenes):
    again = pickle.loads(pickle.dumps(SyntheticScenes(10**9)))
    for index in (7, 3):
        np.testing.assert_array_equal(again.image(index), scenes.image(index))
        np.testing.assert_array_equal(again.record(index).boxes, scenes.record(index).boxes)
        np.testing.assert_array_equal(scenes.image(index), scenes.image(index))
    other = SyntheticScenes(60, seed=1_000_003)
    assert np.abs(other.image(0).astype(int) - scenes.image(0)).mean() > 10
    assert scenes.image(0).dtype == np.uint8
    assert scenes.image(0).shape == (256, 256, 3)
    with pytest.raises(IndexError):
        scenes.record(60)


def test_objects_are_painted_where_their_masks_are():
    scenes = SyntheticScenes(30, seed=2, objects=(1, 1), size=(60.0, 120.0))
    differences = []
    for index in range(30):
        (mask,) = scenes.masks(index)
        image = scenes.image(index).astype(float)
        differences.append(np.linalg.norm(image[mask].mean(0) - image[~mask].mean(0)))
    assert min(differences) > 25


def test_color_says_nothing_about_the_class():
    scenes = SyntheticScenes(100, seed=3, objects=(1, 1), size=(40.0, 80.0))
    colors = np.array([scenes.image(i)[scenes.masks(i)[0]].mean(0) for i in range(100)])
    labels = np.array([scenes.record(index).labels[0] for index in range(100)])
    overall = colors.std(0)
    for label in range(7):
        ours = colors[labels == label]
        # Six standard errors: a palette per class would be many times that.
        assert (np.abs(ours.mean(0) - colors.mean(0)) < 6 * overall / np.sqrt(len(ours))).all()
        assert (ours.std(0) > 0.4 * overall).all()


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(CLASSES),
    st.integers(0, 2**31),
    st.floats(16, 128),
    st.floats(0, 6.28),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_shapes_have_the_asked_size_and_stay_inside(name, seed, size, angle, x, y):
    digits = SyntheticScenes(0)._digits
    shape = random_shape(name, np.random.default_rng(seed), digits)
    placed = rasterize(shape, size, angle, (x, y), (140, 160))
    mask = np.zeros((140, 160), bool)
    mask[placed.window] = placed.inside
    rows, columns = np.nonzero(mask)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    # Sharp corners may hold no pixel's center: a tip of 36 degrees is three pixels long before one wide.
    assert size - 4.5 <= extent <= size + 1.01
    middle = ((columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2)
    assert np.abs(np.array(middle) - placed.center).max() <= 3
    assert not placed.inside[[0, -1]].all()


def test_circle_and_rectangle_masks_have_the_right_areas():
    rng = np.random.default_rng(0)
    circle = rasterize(
        random_shape("circle", rng, np.zeros((1, 8, 8), np.uint8)), 100, 1.0, (0.3, 0.6), (256, 256)
    )
    assert np.count_nonzero(circle.inside) == pytest.approx(np.pi * 50**2, rel=0.005)
    shape = random_shape("rectangle", np.random.default_rng(1), np.zeros((1, 8, 8), np.uint8))
    half_width, half_height = shape.hull.max(0)
    upright = rasterize(shape, 100, 0.0, (0.5, 0.5), (256, 256))
    assert np.count_nonzero(upright.inside) == pytest.approx(1e4 * half_height / half_width, rel=0.02)
    assert upright.coverage.sum() == pytest.approx(1e4 * half_height / half_width, rel=0.01)


def test_star_has_five_tips_and_a_ring_a_hole():
    star = rasterize(
        random_shape("star", np.random.default_rng(0), np.zeros((1, 8, 8), np.uint8)),
        100, 0.0, (0.5, 0.5), (256, 256),
    )  # fmt: skip
    rows, columns = np.nonzero(star.inside)
    # Symmetric tips lie around the frame's origin, at one radius left of the rightmost tip.
    radius = 100 / (2 * np.sin(2 * np.pi / 5))
    tip = columns.max() + 1 - radius
    middle_row = (rows.min() + rows.max() + 1) / 2
    angles = np.arctan2(rows + 0.5 - middle_row, columns + 0.5 - tip)
    distance = np.hypot(rows + 0.5 - middle_row, columns + 0.5 - tip)
    far = np.sort(angles[distance > 0.8 * radius])
    assert np.count_nonzero(np.diff(far) > 0.5) in (4, 5)
    ring = rasterize(
        random_shape("ring", np.random.default_rng(0), np.zeros((1, 8, 8), np.uint8)),
        100, 0.0, (0.5, 0.5), (256, 256),
    )  # fmt: skip
    height, width = ring.inside.shape
    assert not ring.inside[height // 2, width // 2]
    assert ring.inside[height // 2].any()


def test_segmentation_view_shows_the_same_masks(scenes):
    segmentation = scenes.segmentation()
    assert segmentation.classes == ("background", *CLASSES)
    labels, record = segmentation.labels(4), scenes.record(4)
    expected = np.zeros((256, 256), np.int32)
    for mask, label in zip(scenes.masks(4), record.labels, strict=True):
        expected[mask] = label + 1
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(segmentation.image(4), scenes.image(4))
    assert len(segmentation) == 60


def test_to_classify_there_is_one_large_object():
    train, val = open_classification("synthetic?length=40&val_length=5&canvas=48")
    assert (len(train), len(val), train.classes) == (40, 5, CLASSES)
    scenes = SyntheticScenes(40, 0, (48, 48), (1, 1), (12.0, 36.0))
    for i in range(40):
        record = scenes.record(i)
        assert len(record.labels) == 1
        assert train.record(i).label == record.labels[0]
        sides = record.boxes[0, 2:] - record.boxes[0, :2]
        assert 10 <= sides.max() <= 38
    np.testing.assert_array_equal(train.image(3), scenes.image(3))
    assert {train.record(i).label for i in range(40)} == set(range(len(CLASSES)))
    with pytest.raises(UserError, match="synthetic has no option 'objects'"):
        open_classification("synthetic?objects=2")
    with pytest.raises(UserError, match="but this run was trained on cat"):
        open_classification("synthetic", ("cat",))


def test_digits_are_all_there_once():
    from sklearn.datasets import load_digits

    train, val = Digits("train"), Digits("val")
    pictures, labels = load_digits(return_X_y=True)
    assert (len(train), len(val)) == (1437, 360)
    assert train.record(0).label == labels[0]
    assert val.record(0).label == labels[1437]
    assert {val.record(i).label for i in range(360)} == set(range(10))
    np.testing.assert_array_equal(
        val.image(359)[..., 1], (pictures[-1].reshape(8, 8) * 255 / 16).astype(np.uint8)
    )
    assert len({train.record(0).name, val.record(0).name}) == 2


@pytest.mark.parametrize(
    "settings", [{"objects": (0, 3)}, {"size": (20.0, 300.0)}, {"size": (2.0, 30.0)}, {"max_hidden": 1.0}]
)
def test_impossible_settings_are_named(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        SyntheticScenes(3, **settings)
