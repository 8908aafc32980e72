"""Max pooling by rows of windows beside the definition of all windows at once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.kernels.max_pooling import maxima_by_rows, read_by_rows
from vision_jax.ops import pooling

pytestmark = pytest.mark.kernels

# (height, width), size, stride, padding: disjoint windows, pixels left over, overlap, gaps, wider than maps
WINDOWS = [
    ((4, 6), 2, 2, 0),
    ((5, 7), 2, 2, 0),
    ((7, 6), 3, 2, 1),
    ((6, 7), 3, 1, 1),
    ((7, 8), 2, 3, 1),
    ((5, 2), 4, 1, 2),
    ((6, 5), 5, 2, 2),
    ((3, 4), 1, 1, 0),
]


def features_of(shape):
    """Small whole numbers, so that many tie."""
    return np.random.default_rng(0).integers(-3, 4, (*shape, 3)).astype(np.float32)


@pytest.mark.parametrize(("shape", "size", "stride", "padding"), WINDOWS)
def test_rows_of_windows_give_what_all_at_once_give(shape, size, stride, padding):
    features = features_of(shape)
    windows = {"shape": shape, "size": size, "stride": stride, "padding": padding}

    @jax.jit
    def both(features):
        at_once = pooling._maxima_at_once(features, **windows)
        by_rows = maxima_by_rows(pooling._first_largest, features, **windows, fill=-jnp.inf)
        read = pooling._read_at_once(features, at_once[1], **windows)
        return (at_once, read), (by_rows, read_by_rows(pooling._chosen, features, at_once[1], **windows))

    at_once, by_rows = both(features)
    chex.assert_trees_all_equal(at_once, by_rows)
    chex.assert_trees_all_equal(at_once[1], at_once[0][0])
