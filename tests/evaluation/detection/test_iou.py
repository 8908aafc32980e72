"""IoU and IoA for evaluation: of boxes of any dtype, in float64."""

import ml_dtypes
import numpy as np
import pytest

from vision_jax.evaluation.detection.iou import pairwise_ioa, pairwise_iou


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float16, ml_dtypes.bfloat16, np.float32])
def test_narrow_boxes_neither_wrap_nor_overflow(dtype):
    a, b = np.array([[0, 0, 200, 200]], dtype), np.array([[100, 100, 248, 252], [40, 40, 8, 8]], dtype)
    np.testing.assert_allclose(pairwise_iou(a, b), [[10_000 / (40_000 + 148 * 152 - 10_000), 0]])
    np.testing.assert_allclose(pairwise_ioa(a, b), [[0.25, 0]])


@pytest.mark.parametrize("measure", [pairwise_iou, pairwise_ioa])
def test_no_boxes_have_no_pairs(measure):
    none, two = np.zeros((0, 4)), np.ones((2, 4))
    assert (measure(none, two).shape, measure(two, none).shape) == ((0, 2), (2, 0))
    np.testing.assert_array_equal(measure(two, two), 0)  # boxes without area
