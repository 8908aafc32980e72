"""A mask goes where its object's pixels go, as a crop and as a full bitmap, until it lies in a batch."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.data.examples import InstanceExample
from vision_jax.data.fields.image import Image
from vision_jax.data.fields.masks import MaskedObjects, Masks, cut_masks, render_mask
from vision_jax.data.formats.synthetic.scenes import SyntheticScenes
from vision_jax.data.pipeline.batching import check, detection_batch, instance_batch
from vision_jax.data.pipeline.reading import read_instances
from vision_jax.data.records import DetectionRecord
from vision_jax.data.transforms.augment import Augment, TrainTransform
from vision_jax.data.transforms.geometry import crop, flip_horizontal, flip_vertical, resize
from vision_jax.types import UserError

few = settings(max_examples=40, deadline=None)
CHAIN = TrainTransform(
    Augment(hflip=0.5, vflip=0.5, scale=(0.5, 2.0), crop=0.5, crop_area=0.4, min_visible=0.0), (48, 64)
)


class One:
    """A source of one image: white where any mask is."""

    classes = ("a",)

    def __init__(self, masks, boxes):
        self._masks, self._boxes = masks, np.array(boxes, np.float64).reshape(-1, 4)

    def __len__(self):
        return 1

    def record(self, index):
        n, height, width = self._masks.shape
        rest = np.zeros(n, np.int32), np.zeros(n, bool), np.ones(n)
        return DetectionRecord(5, "", height, width, self._boxes, *rest)

    def image(self, index):
        return np.repeat(self._masks.any(0)[..., None], 3, axis=2).astype(np.uint8) * 255

    def masks(self, index):
        return self._masks


@st.composite
def blobs(draw):
    """One object of a few rectangles and a disc, with its tight box."""
    height, width = draw(st.integers(24, 90)), draw(st.integers(24, 90))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        x, y = draw(st.integers(0, width - 8)), draw(st.integers(0, height - 8))
        cv2.rectangle(
            mask, (x, y), (draw(st.integers(x + 7, width)), draw(st.integers(y + 7, height))), 1, -1
        )
    middle = draw(st.integers(8, width - 8)), draw(st.integers(8, height - 8))
    cv2.circle(mask, middle, draw(st.integers(4, 20)), 1, -1)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return One(mask[None].astype(bool), [box])


def around(source, radius):
    """The object's sure inside, itself and all it may touch, `radius` pixels apart, as full bitmaps."""
    mask = source.masks(0)[0].astype(np.uint8)
    kernel = np.ones((2 * radius + 1,) * 2, np.uint8)
    inner = cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE)
    outer = cv2.dilate(mask, kernel)
    box = source.record(0).boxes[0]
    return read_instances(replaced(source, np.stack([inner, mask, outer]) > 0, [box] * 3), 0, None)


def replaced(source, masks, boxes):
    changed = One(masks, boxes)
    changed.image = source.image
    return changed


def rendered(example, row=0):
    """An example's mask in the pixels of its image, as it is now."""
    masks = example.objects.masks
    return render_mask(masks.coverage[row], masks.frames[row], *example.size) > 127


def test_crops_of_masks_by_hand():
    mask = np.zeros((1, 4, 6), bool)
    mask[0, 1, 1] = mask[0, 2:4, 2:4] = True
    crops, frames = cut_masks(mask, np.array([[1.0, 1.25, 3.5, 4.0]], np.float32), 3)
    np.testing.assert_array_equal(frames, [[1, 1, 4, 4]])  # widened to whole pixels
    np.testing.assert_array_equal(crops[0], [[255, 0, 0], [0, 255, 255], [0, 255, 255]])
    # four pixels a cell, of which one or none are covered: a quarter is 63.75
    np.testing.assert_array_equal(
        cut_masks(mask, np.array([[0, 0, 4, 4]], np.float32), 2)[0][0], [[64, 0], [0, 255]]
    )


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(0, 99))
def test_a_cell_holds_the_covered_part_of_its_area(height, width, size, seed):
    mask = np.random.default_rng(seed).random((1, height, width)) < 0.5
    crops, _ = cut_masks(mask, np.array([[0, 0, width, height]], np.float32), size)
    fine = np.repeat(np.repeat(mask[0], size, 0), size, 1)
    expected = 255 * fine.reshape(size, height, size, width).mean((1, 3))
    np.testing.assert_allclose(crops[0], expected, atol=0.51)


def test_drawn_polygons_by_hand():
    mask = np.array([[10, 20], [30, 40]], np.uint8)
    np.testing.assert_array_equal(
        render_mask(mask, np.array([1, 0, 5, 2], np.float32), 3, 6),
        [[0, 10, 10, 20, 20, 0], [0, 30, 30, 40, 40, 0], [0, 0, 0, 0, 0, 0]],
    )
    # over the border: the rows at 0.5 and 1.5 fall into the lower half of -2..2
    np.testing.assert_array_equal(
        render_mask(mask, np.array([-1, -2, 1, 2], np.float32), 3, 2), [[40, 0], [40, 0], [0, 0]]
    )
    assert not render_mask(mask, np.array([7, 0, 9, 2], np.float32), 3, 6).any()


def test_transforms_of_masks_by_hand():
    masks = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
    objects = MaskedObjects(
        np.float32([[1.5, 2, 4.5, 9]]),
        np.int32([0]),
        np.array([False]),
        Masks(masks, np.float32([[1, 2, 5, 9]])),
    )
    example = InstanceExample(0, Image.original(np.zeros((10, 20, 3), np.uint8)), objects)
    mirrored = flip_horizontal(example)
    np.testing.assert_array_equal(mirrored.objects.masks.frames, [[15, 2, 19, 9]])
    np.testing.assert_array_equal(mirrored.objects.masks.coverage, [[[3, 2, 1, 0], [7, 6, 5, 4]]])
    upended = flip_vertical(example)
    np.testing.assert_array_equal(upended.objects.masks.frames, [[1, 1, 5, 8]])
    np.testing.assert_array_equal(upended.objects.masks.coverage, [[[4, 5, 6, 7], [0, 1, 2, 3]]])
    larger = resize(example, (20, 30))
    np.testing.assert_array_equal(larger.objects.masks.frames, [[1.5, 4, 7.5, 18]])
    np.testing.assert_array_equal(larger.objects.masks.coverage, masks)
    part = crop(example, 4, 3, 6, 17, min_visible=0.0)
    np.testing.assert_array_equal(part.objects.boxes, [[0, 0, 1.5, 5]])
    np.testing.assert_array_equal(part.objects.masks.frames, [[-2, -2, 2, 5]])  # moved, not clipped
    np.testing.assert_array_equal(part.objects.masks.coverage, masks)
    for frames in (
        mirrored.objects.masks.frames,
        upended.objects.masks.frames,
        larger.objects.masks.frames,
        part.objects.masks.frames,
    ):
        assert frames.dtype == np.float32


def test_a_crop_drops_masks_with_their_boxes():
    masks = np.zeros((3, 20, 40), bool)
    masks[0, :10, :10] = masks[1, 5:15, 15:30] = masks[2, :4, 30:40] = True
    masks[1, 7:10, 18:26] = False
    example = read_instances(One(masks, [[0, 0, 10, 10], [15, 5, 30, 15], [30, 0, 40, 4]]), 0, 30)
    part = crop(example, 0, 12, 20, 20)
    assert len(part.objects.boxes) == len(part.objects.masks.coverage) == len(part.objects.masks.frames) == 1
    np.testing.assert_array_equal(rendered(part), masks[1, :, 12:32])


@few
@given(blobs(), st.integers(0, 2**32 - 1), st.integers(20, 40))
def test_crop_and_bitmap_and_pixels_agree_through_the_whole_chain(source, seed, size):
    """Up to the border, where a crop's cells, a bitmap's pixels and blended colors may differ."""
    cell = np.ceil(max(source.record(0).boxes[0, 2:] - source.record(0).boxes[0, :2]) / size)
    full, cut = around(source, 1 + int(cell)), read_instances(source, 0, size)
    full, cut = (CHAIN(CHAIN.prepare(e), np.random.default_rng(seed)) for e in (full, cut))
    np.testing.assert_array_equal(full.image.pixels, cut.image.pixels)
    assert len(full.objects.masks.coverage) == 3 * len(cut.objects.masks.coverage)
    for row in range(len(cut.objects.masks.coverage)):
        inside, outside = rendered(full, 0), ~rendered(full, 2)
        mask = rendered(cut, row)
        assert mask[inside].all()
        assert not mask[outside].any()
        white = full.image.pixels[..., 0] > 127
        shrunk = min(full.image.scale) < 0.7  # a pixel then blends more of the original than the margin
        assert shrunk or white[inside].all()
        assert shrunk or not white[outside].any()


@few
@given(blobs(), st.integers(10, 120), st.integers(10, 120))
def test_a_bitmap_resized_is_the_nearest_label(source, height, width):
    out = resize(read_instances(source, 0, None), (height, width))
    mask = source.masks(0)[0]
    rows = ((2 * np.arange(height) + 1) * mask.shape[0]) // (2 * height)
    columns = ((2 * np.arange(width) + 1) * mask.shape[1]) // (2 * width)
    np.testing.assert_array_equal(rendered(out), mask[rows[:, None], columns])


def test_what_is_given_is_not_written_to():
    scenes = SyntheticScenes(1, canvas=(64, 64), objects=(4, 4), size=(8, 40))
    example = read_instances(scenes, 0, 16)
    masks, frames = example.objects.masks.coverage.copy(), example.objects.masks.frames.copy()
    for array in (
        example.image.pixels,
        example.objects.masks.coverage,
        example.objects.masks.frames,
        example.objects.boxes,
    ):
        array.flags.writeable = False
    CHAIN(CHAIN.prepare(example), np.random.default_rng(0))
    np.testing.assert_array_equal(example.objects.masks.coverage, masks)
    np.testing.assert_array_equal(example.objects.masks.frames, frames)


def test_a_scene_is_read_with_its_masks():
    scenes = SyntheticScenes(3, canvas=(64, 64), objects=(3, 5), size=(8, 40))
    for index in range(3):
        masks, record = scenes.masks(index), scenes.record(index)
        crops, bitmaps = read_instances(scenes, index), read_instances(scenes, index, None)
        assert crops.objects.masks.coverage.shape == (len(masks), 112, 112)
        assert (crops.objects.masks.full, bitmaps.objects.masks.full) == (False, True)
        np.testing.assert_array_equal(crops.objects.masks.frames, record.boxes)  # whole numbers already
        np.testing.assert_array_equal(bitmaps.objects.masks.coverage, masks * 255)
        np.testing.assert_array_equal(bitmaps.objects.masks.frames, [[0, 0, 64, 64]] * len(masks))
        for row, mask in enumerate(masks):
            np.testing.assert_array_equal(rendered(crops, row), mask)  # cells are smaller than pixels


def _pair(size):
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :2, :3] = masks[1, 3, 5] = True
    source = One(masks, [[0, 0, 3, 2], [5, 3, 6, 4]])
    one = read_instances(source, 0, size)
    ignored = replace(one.objects, ignore=np.array([False, True]))
    return replace(one, objects=ignored), read_instances(One(masks[:0], []), 0, size)


def test_batch_of_crops_by_hand():
    one, none = _pair(2)
    batch = check(instance_batch([one, none], (8, 8), 3, 3))
    assert batch.masks.shape == (3, 3, 2, 2)
    np.testing.assert_array_equal(batch.masks[0], [[[255] * 2] * 2, [[255] * 2] * 2, [[0] * 2] * 2])
    np.testing.assert_array_equal(batch.frames[0], [[0, 0, 3, 2], [5, 3, 6, 4], [0, 0, 1, 1]])
    assert not batch.masks[1:].any()
    boxes = detection_batch([one, none], (8, 8), 3, 3)
    for name in vars(boxes):
        np.testing.assert_array_equal(getattr(batch, name), getattr(boxes, name))


def test_batch_of_bitmaps_by_hand():
    one, none = _pair(None)
    half = crop(resize(one, (8, 12)), 0, 0, 8, 11)
    batch = check(instance_batch([half, none], (10, 12), 3, 3))
    assert batch.masks.shape == (3, 3, 10, 12)
    expected = np.zeros((3, 10, 12), np.uint8)
    expected[0, :4, :6] = expected[1, 6:8, 10:11] = 255  # column 11 was cut off: padding holds no object
    np.testing.assert_array_equal(batch.masks[0], expected)
    assert not batch.masks[1:].any()
    assert (batch.frames == [0, 0, 12, 10]).all()


def test_masks_of_two_kinds_or_too_many_are_refused():
    one, _ = _pair(2)
    for other in (_pair(3)[0], _pair(None)[0]):
        with pytest.raises(ValueError, match="one kind and size"):
            instance_batch([one, other], (8, 8), 3, 2)
    with pytest.raises(UserError, match=r"2 boxes.*max_objects=1"):
        instance_batch([one], (8, 8), 1, 1)
