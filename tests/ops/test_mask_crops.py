"""Targets of a mask head: worked by hand, from crops as from bitmaps, and as torchvision makes them."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.ops import crop_masks as crop_masks_eagerly

# Compiled as a whole: taken apart, each operation is a program of its own.
crop_masks = jax.jit(crop_masks_eagerly, static_argnums=4)


def bitmap(height, width, top, left, bottom, right):
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def whole(masks):
    height, width = masks.shape[1:]
    return np.tile(np.array([0, 0, width, height], np.float32), (len(masks), 1))


def test_a_half_covered_box():
    masks = bitmap(8, 8, 0, 0, 8, 4)[None]
    got = crop_masks(masks, whole(masks), np.array([0]), np.array([[0.0, 0, 8, 8]], np.float32), 4)
    # Two samples a bin of 2 cells: bin k reads 2k + 0.5 and 2k + 1.5; the edge is between cells 3 and 4.
    np.testing.assert_allclose(got[0, 0], [1, (1 + 0.5) / 2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(got[0], np.tile(np.asarray(got[0, 0]), (4, 1)))


def test_each_box_takes_its_own_object_and_one_that_is_not_finite_nothing():
    masks = np.stack([np.full((6, 6), 255, np.uint8), np.zeros((6, 6), np.uint8)])
    boxes = np.array([[1, 1, 4, 4], [1, 1, 4, 4], [np.nan, 1, 4, 4]], np.float32)
    got = crop_masks(masks, whole(masks), np.array([0, 1, 0]), boxes, 3)
    np.testing.assert_allclose(got[0], 1)
    np.testing.assert_allclose(got[1:], 0)


def check_frame(rng, height, width):
    """A crop read through its frame is the bitmap read whole, away from the frame's edge."""
    full = np.zeros((1, 40, 50), np.uint8)
    top, left = rng.integers(2, 15, 2)
    full[0, top : top + height, left : left + width] = 255 * rng.integers(0, 2, (height, width))
    crop = full[:, top - 1 : top + height + 1, left - 1 : left + width + 1]
    frame = np.array([[left - 1, top - 1, left + width + 1, top + height + 1]], np.float32)
    boxes = np.array([[left, top, left + width, top + height], [0, 0, 50, 40]], np.float32)
    which = np.array([0, 0])
    np.testing.assert_allclose(
        crop_masks(crop, frame, which, boxes, 7), crop_masks(full, whole(full), which, boxes, 7), atol=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_a_frame_says_where_the_picture_is(seed):
    check_frame(np.random.default_rng(seed), 12, 21)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_a_frame_of_any_size_says_where_the_picture_is(seed):
    rng = np.random.default_rng(seed)
    check_frame(rng, *rng.integers(10, 22, 2))


def test_padded_objects_give_finite_targets():
    masks, frames = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4), np.float32)
    got = crop_masks(masks, frames, np.array([1]), np.zeros((1, 4), np.float32), 4)
    np.testing.assert_array_equal(got, 0)


@pytest.mark.peers
def test_full_bitmaps_give_torchvisions_targets():
    torch = pytest.importorskip("torch")
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    rng = np.random.default_rng(0)
    masks = (rng.random((3, 60, 80)) < 0.5).astype(np.uint8)
    corner = rng.uniform(0, 40, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 38, (20, 2))], 1).astype(np.float32)
    boxes = np.clip(boxes, 0, [80, 60, 80, 60]).astype(np.float32)
    which = rng.integers(0, 3, 20)
    expected = project_masks_on_boxes(
        torch.from_numpy(masks), torch.from_numpy(boxes), torch.from_numpy(which), 28
    )
    got = crop_masks(masks * 255, whole(masks), which, boxes, 28)
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)
