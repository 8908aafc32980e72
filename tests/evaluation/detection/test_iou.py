"""Overlaps for evaluation: of boxes of any dtype, in float64."""

import ml_dtypes
import numpy as np
import pytest

from vision_jax.evaluation.detection.iou import pairwise_overlap


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float16, ml_dtypes.bfloat16, np.float32])
def test_narrow_boxes_neither_wrap_nor_overflow(dtype):
    a, b = np.array([[0, 0, 200, 200]], dtype), np.array([[100, 100, 248, 252], [40, 40, 8, 8]], dtype)
    over_union, over_a = pairwise_overlap(a, b)
    np.testing.assert_allclose(over_union, [[10_000 / (40_000 + 148 * 152 - 10_000), 0]])
    np.testing.assert_allclose(over_a, [[0.25, 0]])


def test_no_boxes_overlap_nothing():
    none, two = np.zeros((0, 4)), np.ones((2, 4))
    assert [overlap.shape for overlap in pairwise_overlap(none, two)] == [(0, 2), (0, 2)]
    assert [overlap.shape for overlap in pairwise_overlap(two, none)] == [(2, 0), (2, 0)]
