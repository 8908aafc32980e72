"""Normalization: bytes by hand, zero on the padding."""

import jax
import numpy as np

from vision_jax.layers import normalize


def test_values_by_hand_and_zero_padding():
    image = np.zeros((2, 2, 3, 3), np.uint8)
    image[0, 0, 0] = [255, 0, 51]
    x = np.asarray(jax.jit(normalize)(image, np.array([[1, 2], [2, 3]], np.int32)))
    by_hand = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(x[0, 0, 0], by_hand, rtol=1e-5)
    assert (x[0, 1] == 0).all()
    assert (x[0, :, 2] == 0).all()
    assert (x[1] != 0).all()
