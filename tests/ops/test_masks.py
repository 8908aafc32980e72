"""Pasting: worked by hand, against a slow definition, and against torchvision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.ops.masks import paste_mask, paste_probabilities, paste_window

SIZE = (37, 53)
coordinate = st.floats(-12, 60, width=32)
side = st.one_of(st.sampled_from([0.0, 0.3, 1.0]), st.floats(0, 50, width=32))


def random_mask(seed, m=28):
    return np.random.default_rng(seed).random((m, m), np.float32)


def test_a_full_mask_fades_over_the_ring_around_its_box():
    # A 2x2 mask of ones in a box 2 to 6: padded to 4x4 cells, box 0 to 8, both ends inside: 9 pixels.
    # Pixel j lies at cell (j + 0.5) * 4 / 9 - 0.5 = (8 j - 5) / 18: from 0 at cell 0 it rises to 1 at cell 1.
    along = np.array([0, 3, 11, 18, 18, 18, 11, 3, 0]) / 18
    expected = np.zeros((12, 14))
    expected[:9, :9] = np.outer(along, along)
    pasted = paste_probabilities(np.ones((2, 2), np.float32), np.array([2, 2, 6, 6], np.float32), (12, 14))
    np.testing.assert_allclose(pasted, expected, atol=1e-6)
    # 11 / 18 squared is 0.37: the corners of the 5 x 5 pixels are cut.
    inside = paste_mask(np.ones((2, 2), np.float32), np.array([2, 2, 6, 6], np.float32), (12, 14))
    assert inside.sum() == 25 - 4
    assert not inside[2, 2]
    assert inside[2, 3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), coordinate, coordinate, side, side, st.sampled_from([1, 2, 7, 28]))
def test_window_image_and_mask_agree(seed, x, y, width, height, m):
    mask, box = random_mask(seed, m), np.array([x, y, x + width, y + height], np.float32)
    values, (row, column) = paste_window(mask, box, SIZE)
    image = paste_probabilities(mask, box, SIZE)
    assert image.shape == SIZE
    assert image.dtype == np.float32
    assert 0 <= row <= SIZE[0] - values.shape[0]
    assert 0 <= column <= SIZE[1] - values.shape[1]
    np.testing.assert_array_equal(
        image[row : row + values.shape[0], column : column + values.shape[1]], values
    )
    assert image.sum() == pytest.approx(values.sum(), rel=1e-5)
    np.testing.assert_array_equal(paste_mask(mask, box, SIZE), image > 0.5)
    np.testing.assert_array_equal(paste_mask(mask, box, SIZE, 0.2), image > 0.2)


def test_a_box_outside_the_image_leaves_it_empty():
    for box in ([-40, -40, -20, -20], [100, 5, 120, 15], [5, 80, 15, 90]):
        assert not paste_probabilities(random_mask(0), np.array(box, np.float32), SIZE).any()


@pytest.mark.peers
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 99), coordinate, coordinate, side, side, st.sampled_from([1, 2, 14, 28]))
def test_pasted_masks_equal_torchvision(seed, x, y, width, height, m):
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    x, y = min(x, SIZE[1] - 1), min(y, SIZE[0] - 1)
    # torchvision cannot paste what lies wholly outside.
    box = np.array([x, y, max(x + width, 0), max(y + height, 0)], np.float32)
    mask = random_mask(seed, m)
    theirs = paste_masks_in_image(torch.from_numpy(mask)[None, None], torch.from_numpy(box)[None], SIZE)
    ours = paste_probabilities(mask, box, SIZE)
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-5)
    sure = np.abs(ours - 0.5) > 1e-5
    np.testing.assert_array_equal(paste_mask(mask, box, SIZE)[sure], (theirs[0, 0].numpy() > 0.5)[sure])
