"""Every field goes where the image's pixels go, and a new kind of field goes along with the others."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.data.examples import ImageExample
from vision_jax.data.fields.field import CropWindow, Field
from vision_jax.data.fields.image import Image
from vision_jax.data.fields.keypoints import Keypoints
from vision_jax.data.fields.label_map import LabelMap
from vision_jax.data.fields.masks import MaskedObjects, Masks
from vision_jax.data.fields.proposals import PrecomputedProposals
from vision_jax.data.transforms.augment import Augment, TrainTransform
from vision_jax.data.transforms.geometry import crop, flip_horizontal, flip_vertical, resize
from vision_jax.data.trees import arrays_of, map_arrays

few = settings(max_examples=50, deadline=None)
# a nose, two hands
MIRROR = (0, 2, 1)


@dataclass(frozen=True)
class People(MaskedObjects):
    """Objects with a further field."""

    keypoints: Keypoints


@dataclass(frozen=True)
class Lines(Field):
    """A kind of annotation that the project does not know: lines from one point to another."""

    ends: np.ndarray  # [n, 2, 2], (x, y)

    def _moved(self, x, y):
        return Lines(np.stack([x(self.ends[..., 0]), y(self.ends[..., 1])], -1))

    def flip_horizontal(self, size):
        return self._moved(lambda x: size[1] - x, lambda y: y)

    def flip_vertical(self, size):
        return self._moved(lambda x: x, lambda y: size[0] - y)

    def resize(self, old, new):
        return self._moved(lambda x: x * (new[1] / old[1]), lambda y: y * (new[0] / old[0]))

    def crop(self, window):
        return self._moved(lambda x: x - window.left, lambda y: y - window.top)


@dataclass(frozen=True)
class Everything(ImageExample):
    """An example with a field of every kind, and something that does not move."""

    people: People
    label_map: LabelMap
    proposals: PrecomputedProposals
    lines: Lines
    caption: np.ndarray


def boxes_in(rng, count, height, width):
    """Boxes with corners at quarters of pixels: moving them is exact."""
    corners = rng.integers(0, [4 * width - 8, 4 * height - 8], (count, 2))
    sides = rng.integers(4, 40, (count, 2))
    return (np.concatenate([corners, np.minimum(corners + sides, [4 * width, 4 * height])], 1) / 4).astype(
        np.float32
    )


def made(seed, height, width, count):
    """An example with `count` people."""
    rng = np.random.default_rng(seed)
    boxes = boxes_in(rng, count, height, width)
    points = (rng.integers(0, [4 * width, 4 * height], (count, 3, 2)) / 4).astype(np.float32)
    people = People(
        boxes,
        rng.integers(0, 3, count).astype(np.int32),
        rng.random(count) < 0.3,
        Masks(rng.integers(0, 255, (count, 5, 7), np.uint8), np.floor(boxes)),
        Keypoints(points, rng.integers(0, 3, (count, 3)).astype(np.int32), MIRROR),
    )
    return Everything(
        3,
        Image.original(rng.integers(0, 255, (height, width, 3), np.uint8)),
        people,
        LabelMap(rng.integers(-1, 4, (height, width)).astype(np.int32)),
        PrecomputedProposals(
            boxes_in(rng, 6, height, width), rng.random(6).astype(np.float32), np.ones(6, bool)
        ),
        Lines(rng.integers(0, 8, (2, 2, 2)).astype(np.float32)),
        np.arange(3),
    )


sides = st.integers(8, 50)
arguments = st.tuples(st.integers(0, 2**32 - 1), sides, sides, st.integers(0, 4))


@st.composite
def windows(draw, height, width):
    """(top, left, height, width) inside an image."""
    rows, columns = draw(st.integers(1, height)), draw(st.integers(1, width))
    return draw(st.integers(0, height - rows)), draw(st.integers(0, width - columns)), rows, columns


def assert_same(one, two):
    ours, theirs = list(arrays_of(one)), list(arrays_of(two))
    assert len(ours) == len(theirs) == 14
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@few
@given(arguments)
def test_flips_undo_themselves_and_commute(given_by):
    example = made(*given_by)
    for flip in (flip_horizontal, flip_vertical):
        assert_same(flip(flip(example)), example)
        assert flip(example).caption is example.caption
    width, ends = example.size[1], example.lines.ends
    np.testing.assert_array_equal(flip_horizontal(example).lines.ends[..., 0], width - ends[..., 0])
    assert_same(flip_horizontal(flip_vertical(example)), flip_vertical(flip_horizontal(example)))


@few
@given(arguments, st.data())
def test_a_crop_and_a_flip_commute(given_by, data):
    example = made(*given_by)
    top, left, rows, columns = data.draw(windows(*example.size))
    height, width = example.size
    cropped = flip_horizontal(crop(example, top, left, rows, columns))
    assert_same(cropped, crop(flip_horizontal(example), top, width - left - columns, rows, columns))
    cropped = flip_vertical(crop(example, top, left, rows, columns))
    assert_same(cropped, crop(flip_vertical(example), height - top - rows, left, rows, columns))


@few
@given(arguments, st.data())
def test_a_crop_of_a_crop_is_one_crop(given_by, data):
    example = made(*given_by)
    top, left, rows, columns = data.draw(windows(*example.size))
    down, right, fewer, narrower = data.draw(windows(rows, columns))
    inner = crop(crop(example, top, left, rows, columns, 0.0), down, right, fewer, narrower, 0.0)
    assert_same(inner, crop(example, top + down, left + right, fewer, narrower, 0.0))


@few
@given(arguments, st.integers(1, 60), st.integers(1, 60))
def test_resizing_is_exact_and_commutes_with_flips_of_coordinates(given_by, height, width):
    example = made(*given_by)
    out = resize(example, (height, width))
    assert out.size == out.label_map.labels.shape == (height, width)
    x, y = width / example.size[1], height / example.size[0]
    assert out.image.scale == (x, y)
    for name, ratios in (
        ("people.boxes", [x, y, x, y]),
        ("people.masks.frames", [x, y, x, y]),
        ("people.keypoints.points", [x, y]),
        ("proposals.boxes", [x, y, x, y]),
    ):
        before, after = example, out
        for part in name.split("."):
            before, after = getattr(before, part), getattr(after, part)
        np.testing.assert_array_equal(after, (before * np.array(ratios)).astype(np.float32))
    mirrored, other = flip_horizontal(out), resize(flip_horizontal(example), (height, width))
    np.testing.assert_allclose(mirrored.people.boxes, other.people.boxes, atol=1e-4)
    np.testing.assert_allclose(mirrored.proposals.boxes, other.proposals.boxes, atol=1e-4)


@few
@given(arguments, st.data())
def test_what_belongs_to_an_object_is_kept_and_dropped_with_it(given_by, data):
    example = made(*given_by)
    window = data.draw(windows(*example.size))
    count = len(example.people)
    people = replace(
        example.people,
        labels=np.arange(count, dtype=np.int32),
        masks=replace(example.people.masks, coverage=np.zeros((count, 1, 1), np.uint8) + _numbers(count)),
    )
    out = crop(replace(example, people=people), *window, min_visible=0.5).people
    kept = out.labels
    np.testing.assert_array_equal(out.masks.coverage.ravel(), kept)
    assert len(out) == len(out.masks.frames) == len(out.keypoints.points) == len(out.ignore) == len(kept)
    np.testing.assert_array_equal(
        out.keypoints.points, example.people.keypoints.points[kept] - [window[1], window[0]]
    )


def _numbers(count):
    return np.arange(count, dtype=np.uint8)[:, None, None]


CHAIN = TrainTransform(Augment(hflip=0.5, vflip=0.5, scale=(0.5, 2.0), crop=0.7, min_visible=0.0), (40, 40))


@few
@given(st.integers(0, 2**32 - 1))
def test_a_keypoint_stays_on_its_pixels_through_the_whole_chain(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(5, 55, 2)
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[y - 4 : y + 4, x - 4 : x + 4] = 255
    example = made(seed, 60, 60, 1)
    points = Keypoints(np.float32([[[x, y]] * 3]), np.int32([[2, 2, 2]]), MIRROR)
    people = replace(example.people, boxes=np.float32([[0, 0, 60, 60]]), keypoints=points)
    example = replace(example, image=Image.original(pixels), people=people)
    out = CHAIN(CHAIN.prepare(example), rng)
    found = out.people.keypoints
    column, row = np.floor(found.points[0, 0]).astype(int)
    if found.visibility.all() and 0 <= row < out.size[0] and 0 <= column < out.size[1]:
        assert out.image.pixels[row, column, 0] > 127


def test_left_and_right_keypoints_by_hand():
    # nose, left hand, right hand of two people in an image 10 high and 20 wide
    points = np.float32([[[5, 1], [3, 4], [8, 6]], [[15, 2], [12, 5], [18, 9]]])
    visibility = np.int32([[2, 2, 1], [2, 0, 2]])
    keypoints = Keypoints(points, visibility, MIRROR)
    mirrored = keypoints.flip_horizontal((10, 20))
    np.testing.assert_array_equal(mirrored.points, [[[15, 1], [12, 6], [17, 4]], [[5, 2], [2, 9], [8, 5]]])
    np.testing.assert_array_equal(mirrored.visibility, [[2, 1, 2], [2, 2, 0]])
    upended = keypoints.flip_vertical((10, 20))
    np.testing.assert_array_equal(upended.points[0], [[5, 9], [8, 4], [3, 6]])
    # turned by half a turn, a left hand is a left hand
    turned = upended.flip_horizontal((10, 20))
    np.testing.assert_array_equal(turned.points[0], [[15, 9], [17, 6], [12, 4]])
    np.testing.assert_array_equal(turned.visibility, visibility)
    np.testing.assert_array_equal(keypoints.resize((10, 20), (20, 30)).points[0, 1], [4.5, 8])


def test_keypoints_outside_a_window_are_no_longer_labeled_and_batches_pad_them():
    keypoints = Keypoints(np.float32([[[5, 1], [3, 4], [8, 6]]]), np.int32([[2, 1, 2]]), MIRROR)
    part = keypoints.crop(CropWindow(2, 3, 4, 5))
    np.testing.assert_array_equal(part.points, [[[2, -1], [0, 2], [5, 4]]])
    np.testing.assert_array_equal(part.visibility, [[0, 1, 2]])
    points, visibility = Keypoints.stack([part, part.select(np.array([False]))], 2, 3)
    assert (points.shape, points.dtype) == ((3, 2, 3, 2), np.float32)
    np.testing.assert_array_equal(points[0], [part.points[0], np.zeros((3, 2))])
    np.testing.assert_array_equal(visibility[0], [[0, 1, 2], [0, 0, 0]])
    assert visibility.dtype == np.int32
    assert not points[1:].any()
    assert not visibility[1:].any()


@pytest.mark.parametrize("mirror", [(0, 1), (1, 2, 0), (0, 0, 1), (0, 3, 1)])
def test_keypoints_that_are_no_pairs_are_refused(mirror):
    with pytest.raises(ValueError, match="not 3 keypoints in pairs"):
        Keypoints(np.zeros((0, 3, 2), np.float32), np.zeros((0, 3), np.int32), mirror)


def test_proposals_are_never_dropped_and_batches_take_the_first():
    boxes = np.float32([[0, 0, 4, 4], [6, 2, 9, 9], [1, 1, 3, 8]])
    proposals = PrecomputedProposals(boxes, np.float32([0.9, 0.5, 0.1]), np.ones(3, bool))
    part = proposals.crop(CropWindow(3, 4, 6, 5))
    np.testing.assert_array_equal(part.boxes, [[0, 0, 0, 1], [2, 0, 5, 6], [0, 0, 0, 5]])
    np.testing.assert_array_equal(part.valid, [False, True, False])
    np.testing.assert_array_equal(part.scores, proposals.scores)
    arrays = PrecomputedProposals.stack([proposals, part], 2, 3)
    np.testing.assert_array_equal(arrays["boxes"][0], boxes[:2])
    np.testing.assert_array_equal(arrays["valid"], [[True, True], [False, True], [False, False]])
    np.testing.assert_array_equal(arrays["scores"][0], np.float32([0.9, 0.5]))
    more = PrecomputedProposals.stack([proposals], 5, 1)
    np.testing.assert_array_equal(more["valid"], [[True, True, True, False, False]])
    assert not more["boxes"][0, 3:].any()


def test_nothing_is_written_to_the_given_example():
    example = made(0, 60, 70, 3)
    before = map_arrays(np.copy, example)
    for array in arrays_of(example):
        array.flags.writeable = False
    out = CHAIN(CHAIN.prepare(example), np.random.default_rng(0))
    assert out.size != example.size
    assert_same(example, before)
