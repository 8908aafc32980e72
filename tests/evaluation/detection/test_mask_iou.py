"""Run lengths against pycocotools; mask and boundary IoU against slow definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from vision_jax.evaluation.detection.mask_iou import (
    encode_mask,
    encode_shape,
    encode_window,
    mask_and_boundary_iou,
    mask_areas,
)


def blob(rng, height, width):
    """A random region: some overlapping rectangles with some cut out, often at the border."""
    mask = np.zeros((height, width), bool)
    for value in (True, True, True, False):
        top, left = rng.integers(-5, height - 5), rng.integers(-5, width - 5)
        bottom, right = top + rng.integers(5, height), left + rng.integers(5, width)
        mask[max(top, 0) : bottom, max(left, 0) : right] = value
    return mask


def boundary_of(mask):
    """Each True pixel with a pixel outside the mask, or outside the image, at most d steps away."""
    height, width = mask.shape
    reach = max(1, round(0.02 * np.hypot(height, width)))
    outside = np.pad(~mask, reach, constant_values=True)
    near = np.zeros_like(mask)
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            near |= outside[y : y + height, x : x + width]
    return mask & near


def iou_of(a, b):
    return (a & b).sum() / (a | b).sum()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_a_window_is_encoded_as_pycocotools_encodes_the_whole_mask(seed, height, width, filled):
    rng = np.random.default_rng(seed)
    top, bottom = np.sort(rng.integers(0, height + 1, 2))
    left, right = np.sort(rng.integers(0, width + 1, 2))
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = rng.random((bottom - top, right - left)) < filled
    ours = encode_window(mask[top:bottom, left:right], (int(top), int(left)), (height, width))
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours == theirs
    assert encode_mask(mask) == theirs
    assert mask_areas([ours, ours]) == [mask.sum()] * 2


def test_full_columns_run_on_into_the_next():
    assert encode_window(np.ones((4, 3), bool), (0, 1), (4, 5)) == coco_mask.encode(
        np.asfortranarray(np.tile([0, 1, 1, 1, 0], (4, 1)).astype(np.uint8))
    )
    full = encode_window(np.ones((4, 5), bool), (0, 0), (4, 5))
    np.testing.assert_array_equal(coco_mask.decode(full), 1)


def test_shapes_are_rasterized_as_coco_does():
    polygons = [[3.2, 4.1, 30.7, 8.0, 17.5, 33.3], [40.0, 40.0, 55.5, 41.0, 52.0, 70.0, 41.0, 66.0]]
    expected = coco_mask.merge(coco_mask.frPyObjects(polygons, 60, 50))
    assert encode_shape(polygons, (60, 50)) == expected
    packed = {"size": [60, 50], "counts": expected["counts"].decode()}
    assert encode_shape(packed, (60, 50)) == expected
    assert encode_shape({"size": [2, 3], "counts": [1, 4, 1]}, (2, 3)) == coco_mask.encode(
        np.asfortranarray(np.array([[0, 1, 1], [1, 1, 0]], np.uint8))
    )


@pytest.mark.parametrize(("height", "width"), [(60, 80), (123, 200), (20, 20)])
def test_ious_equal_their_definitions(height, width):
    rng = np.random.default_rng(height)
    seen = 0
    for _ in range(6):
        truth = [blob(rng, height, width) for _ in range(3)]
        found = [mask ^ (blob(rng, height, width) & blob(rng, height, width)) for mask in truth for _ in "ab"]
        found = [mask if mask.any() else truth[0] for mask in found]
        truth = [mask if mask.any() else found[0] for mask in truth]
        crowd = np.array([False, False, True])
        iou, least = mask_and_boundary_iou(
            *([encode_mask(mask) for mask in masks] for masks in (found, truth)),
            crowd,
        )
        for d, mine in enumerate(found):
            for g, theirs in enumerate(truth):
                expected = (mine & theirs).sum() / mine.sum() if crowd[g] else iou_of(mine, theirs)
                assert iou[d, g] == pytest.approx(expected)
                if expected >= 0.5 and not crowd[g]:
                    expected = min(expected, iou_of(boundary_of(mine), boundary_of(theirs)))
                    seen += expected < iou[d, g]
                assert least[d, g] == pytest.approx(expected)
    assert seen > 5


def test_the_boundary_of_a_square_worked_by_hand():
    # 100 x 100 in a 300 x 400 image, whose diagonal is 500: the ring is 10 wide, 100^2 - 80^2 = 3600 pixels.
    # The square without its outer 5 pixels, 90^2 = 8100 of 10000: its ring holds 8100 - 70^2 = 3200 pixels,
    # of which those outside the inner 80 x 80 are shared: 8100 - 6400 = 1700.
    masks = np.zeros((2, 300, 400), bool)
    masks[0, 100:200, 150:250] = masks[1, 105:195, 155:245] = True
    whole, inner = (encode_mask(mask) for mask in masks)
    iou, least = mask_and_boundary_iou([inner], [whole], np.array([False]))
    assert iou[0, 0] == pytest.approx(0.81)
    assert least[0, 0] == pytest.approx(1700 / (3600 + 3200 - 1700))
