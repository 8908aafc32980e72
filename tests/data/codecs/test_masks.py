"""Run lengths are exact and as COCO writes them; polygons cover the pixels whose centers are inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vision_jax.data.codecs.masks import (
    Shapes,
    decode_runs,
    encode_runs,
    fill_polygon,
    pack_runs,
    unpack_runs,
)

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_runs_of_a_mask_by_hand():
    mask = np.array([[1, 0], [1, 1]], bool)  # down the columns: 1 1, 0 1
    np.testing.assert_array_equal(encode_runs(mask), [0, 2, 1, 1])
    np.testing.assert_array_equal(decode_runs(np.array([0, 2, 1, 1]), 2, 2), mask)


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_a_mask_of_runs_has_the_same_runs(mask):
    runs = encode_runs(mask)
    assert runs.sum() == mask.size
    assert (runs[1:] > 0).all()
    np.testing.assert_array_equal(decode_runs(runs, *mask.shape), mask)
    np.testing.assert_array_equal(unpack_runs(pack_runs(runs)), runs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**20), max_size=12))
def test_packed_runs_round_trip(runs):
    np.testing.assert_array_equal(unpack_runs(pack_runs(np.array(runs, np.int64))), runs)


@settings(max_examples=30, deadline=None)
@given(MASKS)
def test_packed_runs_are_those_of_pycocotools(mask):
    coco = pytest.importorskip("pycocotools.mask")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert pack_runs(encode_runs(mask)) == theirs
    np.testing.assert_array_equal(decode_runs(unpack_runs(theirs), *mask.shape), mask)


@pytest.mark.parametrize("text", ["0P", "5 5", "o"])
def test_damaged_packed_runs_are_refused(text):
    with pytest.raises(ValueError):
        unpack_runs(text)


def test_rectangle_covers_its_pixels():
    mask = fill_polygon(np.array([[1, 2], [4, 2], [4, 5], [1, 5]], float), 6, 7)
    expected = np.zeros((6, 7), bool)
    expected[2:5, 1:4] = True
    np.testing.assert_array_equal(mask, expected)


def _holds(points, x, y):
    """Even-odd rule for one point, by counting edges crossed on the way to the left."""
    inside = False
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (ay <= y) != (by <= y) and ax + (y - ay) / (by - ay) * (bx - ax) <= x:
            inside = not inside
    return inside


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 12)), min_size=3, max_size=7))
def test_polygons_hold_the_centres_inside_them(points):
    corners = np.round(np.array(points), 3) + np.array([1e-4, 1.41421e-4])  # no center exactly on an edge
    mask = fill_polygon(corners, 8, 9)
    expected = [[_holds(corners, x + 0.5, y + 0.5) for x in range(9)] for y in range(8)]
    np.testing.assert_array_equal(mask, expected)


def test_polygons_are_close_to_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    radius = 40 + 10 * np.sin(5 * angles)
    points = np.stack([60 + radius * np.cos(angles), 55 + radius * np.sin(angles)], axis=1)
    ours = fill_polygon(points, 110, 120)
    theirs = coco.decode(coco.frPyObjects([points.ravel().tolist()], 110, 120))[..., 0] > 0
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.98
    x, y = points[:, 0], points[:, 1]
    exact = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert abs(ours.sum() - exact) < 0.01 * exact


def test_shapes_keep_each_objects_pieces():
    square = np.array([0, 0, 2, 0, 2, 2, 0, 2], float)
    other = np.array([3, 3, 4, 3, 4, 4, 3, 4], float)
    runs = encode_runs(np.eye(4, dtype=bool))
    shapes = Shapes.pack([[square, other], [], [runs]], [False, False, True])
    both = np.zeros((4, 4), bool)
    both[:2, :2] = both[3, 3] = True
    np.testing.assert_array_equal(shapes.mask(0, 4, 4), both)
    assert not shapes.mask(1, 4, 4).any()
    np.testing.assert_array_equal(shapes.mask(2, 4, 4), np.eye(4))


def test_a_run_length_that_never_ends_is_refused_before_it_grows():
    """Sixty bits hold any image; text of a file could go on for megabytes."""
    with pytest.raises(ValueError, match="over 60 bits"):
        unpack_runs("_" * 20 + "0")
    assert unpack_runs(pack_runs(np.array([2**54]))).tolist() == [2**54]
