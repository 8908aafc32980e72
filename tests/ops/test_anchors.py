"""Anchors: worked numbers, and the order in which they come."""

import numpy as np
import pytest

from vision_jax.ops import base_anchors, grid_anchors, pyramid_anchors


def test_base_anchors_worked_by_hand():
    # Ratio 4 of size 16: 32 high, 8 wide. Ratios are outer, sizes inner.
    expected = [[-8, -8, 8, 8], [-16, -16, 16, 16], [-4, -16, 4, 16], [-8, -32, 8, 32]]
    anchors = base_anchors((16, 32), (1, 4))
    assert anchors.dtype == np.float32
    np.testing.assert_array_equal(anchors, expected)


def test_base_anchors_round_halves_to_even():
    np.testing.assert_array_equal(base_anchors((5,), (1,)), [[-2, -2, 2, 2]])
    np.testing.assert_array_equal(base_anchors((7,), (1,)), [[-4, -4, 4, 4]])
    np.testing.assert_array_equal(base_anchors((5,), (1,), rounded=False), [[-2.5, -2.5, 2.5, 2.5]])


def test_unrounded_base_anchors_have_the_area_and_the_ratio_asked_for():
    sizes, ratios = (32.0, 100.0), (0.5, 1.0, 2.0)
    x1, y1, x2, y2 = base_anchors(sizes, ratios, rounded=False).T
    np.testing.assert_allclose((y2 - y1) / (x2 - x1), np.repeat(ratios, 2), rtol=1e-6)
    np.testing.assert_allclose((y2 - y1) * (x2 - x1), np.tile(np.square(sizes), 3), rtol=1e-6)


def test_grid_anchors_go_row_by_row_with_the_anchors_of_a_position_together():
    base = np.array([[-1, -1, 1, 1], [-2, -2, 2, 2]], np.float32)
    grid = grid_anchors((2, 3), (10, 100), base)
    assert grid.shape == (12, 4)
    assert grid.dtype == np.float32
    np.testing.assert_array_equal(grid[0], base[0])
    np.testing.assert_array_equal(grid[1], base[1])
    np.testing.assert_array_equal(grid[2], [99, -1, 101, 1])  # next column
    np.testing.assert_array_equal(grid[-1], [198, 8, 202, 12])  # last row, last column


def test_pyramid_anchors_take_each_levels_stride():
    levels = pyramid_anchors((64, 96), [(8, 12), (3, 5)], [(16,), (32,)], (1.0,))
    assert [level.shape for level in levels] == [(96, 4), (15, 4)]
    np.testing.assert_array_equal(levels[0][13], [8 - 8, 8 - 8, 8 + 8, 8 + 8])
    np.testing.assert_array_equal(levels[1][6], [19 - 16, 21 - 16, 19 + 16, 21 + 16])  # 96 // 5, 64 // 3


def test_pyramid_anchors_want_sizes_for_every_level():
    with pytest.raises(ValueError, match="2 feature maps but anchor sizes for 1 levels"):
        pyramid_anchors((64, 64), [(8, 8), (4, 4)], [(16,)], (1.0,))
