"""Boxes and label maps must go where the pixels go, under every transform and any chain of them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.data.examples import ClassificationExample, DetectionExample, SegmentationExample
from vision_jax.data.fields.image import Image
from vision_jax.data.fields.label_map import LabelMap
from vision_jax.data.fields.objects import Objects
from vision_jax.data.pipeline.batching import detection_batch
from vision_jax.data.transforms.augment import (
    Augment,
    ColorJitter,
    FitCanvas,
    RandomCrop,
    ScaleJitter,
    TrainTransform,
    adjust_color,
    train_transform,
)
from vision_jax.data.transforms.geometry import crop, flip_horizontal, flip_vertical, oriented, resize
from vision_jax.types import Detections, UserError, to_original

few = settings(max_examples=40, deadline=None)


def detection(image, boxes=(), ignore=None, id=0):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(len(boxes), dtype=np.int32)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore)
    return DetectionExample(id, Image.original(image), Objects(boxes, labels, ignore))


@st.composite
def painted(draw):
    """An image with one white rectangle, its box, and the rectangle as a label map."""
    height, width = draw(st.integers(24, 90)), draw(st.integers(24, 90))
    x1, y1 = draw(st.integers(0, width - 8)), draw(st.integers(0, height - 8))
    x2, y2 = draw(st.integers(x1 + 8, width)), draw(st.integers(y1 + 8, height))
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    return detection(image, [[x1, y1, x2, y2]])


def as_segmentation(example):
    labels = (example.image.pixels[..., 0] > 127).astype(np.int32)
    return SegmentationExample(example.id, example.image, LabelMap(labels))


def extent(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


seeds = st.integers(0, 2**32 - 1)
CHAIN = TrainTransform(
    Augment(hflip=0.5, vflip=0.5, scale=(0.5, 2.0), crop=0.5, crop_area=0.4, min_visible=0.0), (48, 64)
)


@few
@given(painted(), seeds)
def test_box_and_pixels_move_together_through_the_whole_chain(example, seed):
    out = CHAIN(CHAIN.prepare(example), np.random.default_rng(seed))
    white = out.image.pixels[..., 0] > 127
    assert out.image.pixels.shape[0] <= oriented((48, 64), *example.image.original_size)[0]
    assert out.image.pixels.shape[1] <= oriented((48, 64), *example.image.original_size)[1]
    if not len(out.objects.boxes):
        assert white.sum() <= 2 * sum(white.shape)
        return
    box = out.objects.boxes[0]
    assert np.all(box >= 0)
    assert box[2] <= out.image.pixels.shape[1]
    assert box[3] <= out.image.pixels.shape[0]
    if min(box[2:] - box[:2]) >= 4:
        np.testing.assert_allclose(extent(white), box, atol=1.01)


@few
@given(painted(), seeds)
def test_label_map_follows_the_pixels_through_the_whole_chain(example, seed):
    chain = replace(CHAIN, canvas=(64, 64))
    example = as_segmentation(example)
    out = chain(chain.prepare(example), np.random.default_rng(seed))
    assert out.label_map.labels.shape == out.image.pixels.shape[:2]
    assert set(np.unique(out.label_map.labels)) <= {0, 1}
    white = out.image.pixels[..., 0] > 127
    if (
        out.label_map.labels.any()
        and min(np.ptp(extent(out.label_map.labels > 0).reshape(2, 2), axis=0)) >= 4
    ):
        np.testing.assert_allclose(extent(white), extent(out.label_map.labels > 0), atol=1.01)


@few
@given(painted())
def test_flips_undo_themselves_and_mirror_exactly(example):
    for flip, axis in ((flip_horizontal, 1), (flip_vertical, 0)):
        for one in (example, as_segmentation(example)):
            back = flip(flip(one))
            np.testing.assert_array_equal(back.image.pixels, one.image.pixels)
            np.testing.assert_array_equal(flip(one).image.pixels, np.flip(one.image.pixels, axis))
        np.testing.assert_array_equal(flip(flip(example)).objects.boxes, example.objects.boxes)
        np.testing.assert_array_equal(
            extent(flip(example).image.pixels[..., 0] > 0), flip(example).objects.boxes[0]
        )
        labels = as_segmentation(example).label_map.labels
        np.testing.assert_array_equal(flip(as_segmentation(example)).label_map.labels, np.flip(labels, axis))


def test_a_flipped_example_by_hand():
    example = detection(np.zeros((10, 20, 3), np.uint8), [[1, 2, 5, 9]])
    np.testing.assert_array_equal(flip_horizontal(example).objects.boxes, [[15, 2, 19, 9]])
    np.testing.assert_array_equal(flip_vertical(example).objects.boxes, [[1, 1, 5, 8]])


@few
@given(painted(), st.integers(1, 90), st.integers(1, 90))
def test_resizing_multiplies_boxes_and_records_the_ratio(example, height, width):
    out = resize(example, (height, width))
    ratio = (width / example.image.pixels.shape[1], height / example.image.pixels.shape[0])
    assert out.image.pixels.shape == (height, width, 3)
    assert out.image.scale == pytest.approx(ratio, rel=1e-12)
    np.testing.assert_allclose(out.objects.boxes, example.objects.boxes * np.tile(ratio, 2), rtol=1e-6)
    assert out.image.original_size == example.image.original_size


def test_shrinking_averages_areas_and_labels_take_the_center():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    labels = LabelMap(np.arange(16, dtype=np.int32).reshape(4, 4))
    example = SegmentationExample(0, Image.original(np.repeat(image[..., None], 3, 2)), labels)
    half = resize(example, (2, 2))
    np.testing.assert_array_equal(half.image.pixels[..., 0], [[25, 45], [105, 125]])
    # Centres of a 3-pixel row over 4 pixels: 0.67, 2, 3.33.
    np.testing.assert_array_equal(resize(example, (4, 3)).label_map.labels[0], [0, 2, 3])
    np.testing.assert_array_equal(resize(example, (4, 8)).label_map.labels[0], [0, 0, 1, 1, 2, 2, 3, 3])


@few
@given(painted(), st.sampled_from([(48, 64), (64, 48), (50, 50)]))
def test_fit_fills_one_side_and_answers_go_back_to_the_original(example, canvas):
    out = FitCanvas(canvas)(example)
    height, width = oriented(canvas, *example.image.original_size)
    assert out.image.pixels.shape[0] == height or out.image.pixels.shape[1] == width
    assert out.image.pixels.shape[0] <= height
    assert out.image.pixels.shape[1] <= width
    batch = detection_batch([out], canvas, 1, 2)
    found = Detections(
        boxes=batch.boxes, scores=batch.valid.astype(np.float32), labels=batch.labels, valid=batch.valid
    )
    (answer,) = to_original(batch, found)
    np.testing.assert_allclose(answer.boxes, example.objects.boxes, atol=1e-3)


def test_canvas_lies_for_wide_images_and_stands_for_high_ones():
    assert oriented((240, 320), 480, 640) == (240, 320)
    assert oriented((240, 320), 640, 480) == (320, 240)
    assert oriented((320, 240), 480, 640) == (240, 320)
    assert oriented((320, 240), 50, 50) == (320, 240)
    portrait = FitCanvas((240, 320))(detection(np.zeros((640, 480, 3), np.uint8)))
    assert portrait.image.pixels.shape == (320, 240, 3)
    segment = SegmentationExample.unannotated(0, np.zeros((64, 48, 3), np.uint8))
    assert FitCanvas((24, 32))(segment).image.pixels.shape == (24, 18, 3)


def test_crop_drops_what_is_mostly_gone_and_keeps_ignored_regions():
    image = np.zeros((20, 40, 3), np.uint8)
    boxes = [[0, 0, 10, 10], [8, 0, 18, 10], [12, 2, 18, 6], [0, 0, 11, 10], [0, 0, 4, 4]]
    example = detection(image, boxes, ignore=[False, False, False, True, True])
    out = crop(example, 1, 10, 12, 20, min_visible=0.5)
    np.testing.assert_array_equal(out.objects.labels, [1, 2, 3])
    np.testing.assert_array_equal(out.objects.boxes, [[0, 0, 8, 9], [2, 1, 8, 5], [0, 0, 1, 9]])
    np.testing.assert_array_equal(out.objects.ignore, [False, False, True])
    # 72 of the second box's 100 pixels are left: kept at 0.72, dropped above.
    assert 1 in crop(example, 1, 10, 12, 20, min_visible=0.72).objects.labels
    assert 1 not in crop(example, 1, 10, 12, 20, min_visible=0.73).objects.labels


def test_random_crop_keeps_its_promises():
    rng = np.random.default_rng(0)
    image = np.zeros((60, 80, 3), np.uint8)
    shapes = np.array(
        [RandomCrop(1.0, 0.3)(detection(image), rng).image.pixels.shape[:2] for _ in range(300)]
    )
    areas = shapes.prod(1) / image[..., 0].size
    assert areas.min() == pytest.approx(0.3, abs=0.03)
    assert areas.max() == pytest.approx(1, abs=0.05)
    never = RandomCrop(0.0)(detection(image), rng)
    assert never.image.pixels.shape == image.shape


def test_scale_jitter_covers_its_range_and_never_leaves_the_canvas():
    rng = np.random.default_rng(0)
    example = detection(np.zeros((60, 80, 3), np.uint8), [[0, 0, 80, 60]])
    jitter = ScaleJitter((30, 40), (0.5, 2.0), 0.0)
    out = [jitter(example, rng) for _ in range(200)]
    factors = np.array([one.image.scale[0] for one in out]) * 2
    assert factors.min() == pytest.approx(0.5, abs=0.03)
    assert factors.max() == pytest.approx(2, abs=0.06)
    assert np.median(factors) == pytest.approx(1, abs=0.15)
    assert all(one.image.pixels.shape[0] <= 30 and one.image.pixels.shape[1] <= 40 for one in out)
    for one in out:
        np.testing.assert_allclose(one.objects.boxes[0], [0, 0, *one.image.pixels.shape[1::-1]], atol=1e-3)


def test_without_jitter_everything_random_happens_after_the_prepared_size():
    transform = train_transform(Augment(hflip=0.0), (30, 40))
    example = detection(np.random.default_rng(0).integers(0, 255, (61, 77, 3), np.uint8), [[3, 4, 50, 60]])
    prepared = transform.prepare(example)
    out = transform(prepared, np.random.default_rng(0))
    np.testing.assert_array_equal(out.image.pixels, prepared.image.pixels)
    np.testing.assert_array_equal(out.image.pixels, FitCanvas((30, 40))(example).image.pixels)
    assert out.image.scale == prepared.image.scale


def test_changed_colors_by_hand():
    red, gray = np.uint8([[[200, 0, 0]]]), np.uint8([[[100, 100, 100]]])
    np.testing.assert_array_equal(adjust_color(gray, brightness=1.5), [[[150, 150, 150]]])
    np.testing.assert_array_equal(adjust_color(gray, saturation=0.0, hue=0.3), gray)
    luma = round(0.299 * 200)
    np.testing.assert_array_equal(adjust_color(red, saturation=0.0), [[[luma] * 3]])
    np.testing.assert_array_equal(adjust_color(red, hue=1.0), red)
    pair = np.uint8([[[50, 50, 50], [150, 150, 150]]])
    np.testing.assert_array_equal(adjust_color(pair, contrast=0.5)[0, :, 0], [75, 125])
    turned = adjust_color(np.uint8([[[120, 100, 90]]]), hue=0.5)[0, 0].astype(float)
    weights = [0.299, 0.587, 0.114]
    assert turned @ weights == pytest.approx(np.array([120, 100, 90]) @ weights, abs=1)
    assert turned[0] < 100 < turned[2]
    assert adjust_color(np.uint8([[[250, 5, 5]]]), brightness=2.0, contrast=2.0).min() == 0


@few
@given(painted(), seeds)
def test_nothing_is_written_to_the_given_example_and_draws_repeat(example, seed):
    chain = replace(CHAIN, augment=replace(CHAIN.augment, color=0.5))
    before, boxes = example.image.pixels.copy(), example.objects.boxes.copy()
    example.image.pixels.flags.writeable = False
    one, two = (chain(chain.prepare(example), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(example.image.pixels, before)
    np.testing.assert_array_equal(example.objects.boxes, boxes)
    np.testing.assert_array_equal(one.image.pixels, two.image.pixels)
    np.testing.assert_array_equal(one.objects.boxes, two.objects.boxes)


def test_classification_examples_pass_and_transforms_pickle():
    example = ClassificationExample(3, Image.original(np.full((20, 10, 3), 7, np.uint8)), 1)
    transform = pickle.loads(pickle.dumps(CHAIN))
    out = transform(transform.prepare(example), np.random.default_rng(0))
    assert (out.id, out.label) == (3, 1)
    assert out.image.pixels.max() == out.image.pixels.min() == 7
    assert ColorJitter(0.0)(example, np.random.default_rng(0)).image.pixels.mean() == 7


@pytest.mark.parametrize(
    ("field", "value"), [("hflip", 1.5), ("scale", (2.0, 1.0)), ("scale", (0.0, 1.0)), ("color", -1.0)]
)
def test_impossible_settings_are_named(field, value):
    with pytest.raises(UserError, match=f"augment.{field}"):
        Augment(**{field: value})
