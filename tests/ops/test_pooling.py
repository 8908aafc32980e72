"""Unpooling and max pooling with its argmax: worked numbers, loops over windows, gradients, properties."""

from functools import partial

import chex
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from vision_jax.ops import pooling
from vision_jax.ops.pooling import unpool_bed_of_nails, unpool_nearest

pooled = jax.jit(pooling.max_pool_with_argmax, static_argnums=(1, 2, 3))
unpooled = jax.jit(pooling.max_unpool, static_argnums=(2, 3, 4, 5))
modest = settings(max_examples=15, deadline=None)

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
slow = pytest.mark.slow
every_window = pytest.mark.parametrize(("shape", "size", "stride", "padding"), WINDOWS)
# By default, pixels left over, overlap, and gaps.
some_windows = pytest.mark.parametrize(
    ("shape", "size", "stride", "padding"),
    [pytest.param(*case, marks=[] if i in (1, 2, 4) else slow) for i, case in enumerate(WINDOWS)],
)


def max_pool_with_argmax(*args):
    """Compiled, and NumPy's arrays: what is asserted of them is no program of its own."""
    return tuple(map(np.asarray, pooled(*args)))


def max_unpool(*args):
    """Compiled, and NumPy's array."""
    return np.asarray(unpooled(*args))


@partial(jax.jit, static_argnums=1)
def nearest_and_nails(features, stride=2):
    return unpool_nearest(features, stride), unpool_bed_of_nails(features, stride)


def slow_pool(features, size, stride, padding):
    """Window by window."""
    height, width, channels = features.shape
    rows, columns = ((length + 2 * padding - size) // stride + 1 for length in (height, width))
    values, argmax = np.zeros((rows, columns, channels)), np.zeros((rows, columns, channels), int)
    for m, n, c in np.ndindex(rows, columns, channels):
        inside = [
            (y, x)
            for y in range(m * stride - padding, m * stride - padding + size)
            for x in range(n * stride - padding, n * stride - padding + size)
            if 0 <= y < height and 0 <= x < width
        ]
        y, x = max(inside, key=lambda pixel: features[(*pixel, c)])  # the first of equal ones
        values[m, n, c], argmax[m, n, c] = features[y, x, c], y * width + x
    return values, argmax


def slow_unpool(values, argmax, shape):
    """Value after value, in reading order."""
    out = np.zeros((shape[0] * shape[1], values.shape[-1]))
    for m, n, c in np.ndindex(values.shape):
        out[argmax[m, n, c], c] = values[m, n, c]
    return out.reshape(*shape, -1)


def features_of(shape, channels=3, seed=0):
    """Small whole numbers, so that many tie."""
    return np.random.default_rng(seed).integers(-3, 4, (*shape, channels)).astype(np.float32)


def test_nearest_and_bed_of_nails_by_hand():
    features = np.array([[1, 2], [3, 4]], np.float32)[..., None]
    nearest, nails = map(np.asarray, nearest_and_nails(features))
    assert nearest[..., 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert nails[..., 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]


def test_max_unpooling_by_hand():
    features = np.array([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]], np.float32)[..., None]
    values, argmax = max_pool_with_argmax(features)
    assert values[..., 0].tolist() == [[5, 6], [7, 8]]
    assert argmax[..., 0].tolist() == [[5, 2], [12, 15]]
    assert argmax.dtype == np.int32
    later = np.array([[1, 2], [3, 4]], np.float32)[..., None]
    expected = [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    assert max_unpool(later, argmax, (4, 4))[..., 0].tolist() == expected


@some_windows
def test_pooling_is_that_of_windows_and_the_first_of_equal_maxima(shape, size, stride, padding):
    features = features_of(shape)
    values, argmax = slow_pool(features, size, stride, padding)
    ours = max_pool_with_argmax(features, size, stride, padding)
    np.testing.assert_array_equal(ours[0], values)
    np.testing.assert_array_equal(ours[1], argmax)


@some_windows
def test_unpooling_writes_in_reading_order(shape, size, stride, padding):
    _, argmax = max_pool_with_argmax(features_of(shape), size, stride, padding)
    values = np.random.default_rng(1).normal(size=argmax.shape).astype(np.float32)
    ours = max_unpool(values, argmax, shape, size, stride, padding)
    np.testing.assert_array_equal(ours, slow_unpool(values, argmax, shape).astype(np.float32))


@pytest.mark.kernels
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), WINDOWS[::2])
def test_gradients_equal_finite_differences(shape, size, stride, padding):
    order = np.random.default_rng(2).permutation(shape[0] * shape[1] * 2).reshape(*shape, 2)
    with jax.enable_x64(True):
        features = jnp.asarray(order, float)  # no two within 1: no step changes which is the largest
        values, argmax = pooling.max_pool_with_argmax(features, size, stride, padding)
        pool = jax.jit(lambda f: pooling.max_pool_with_argmax(f, size, stride, padding)[0])
        unpool = jax.jit(lambda v: pooling.max_unpool(v, argmax, shape, size, stride, padding))
        for linear, at in ((pool, features), (unpool, values)):
            check_grads(linear, (at,), order=2, modes=("rev",), eps=1e-3, atol=1e-8, rtol=1e-8)


def test_a_tie_gives_its_gradient_to_the_first():
    slope = jax.jit(jax.grad(lambda x: pooling.max_pool_with_argmax(x)[0].sum()))
    gradient = np.asarray(slope(np.ones((2, 4, 1), np.float32)))
    assert gradient[..., 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]]


def test_windows_that_share_their_maximum_add_their_gradients_and_the_last_unpools():
    features = np.zeros((3, 3, 1), np.float32)
    features[1, 1] = 1

    @jax.jit
    def worked(features, values):
        def total(features):
            found, argmax = pooling.max_pool_with_argmax(features, 2, 1)
            return found.sum(), argmax

        gradient, argmax = jax.grad(total, has_aux=True)(features)
        larger, pull = jax.vjp(lambda values: pooling.max_unpool(values, argmax, (3, 3), 2, 1), values)
        return gradient, larger, pull(jnp.ones_like(larger))[0]

    values = np.arange(1, 5, dtype=np.float32).reshape(2, 2, 1)
    gradient, larger, taken = map(np.asarray, worked(features, values))
    chex.assert_trees_all_equal(gradient, 4 * features)
    chex.assert_trees_all_equal(larger, 4 * features)
    assert taken[..., 0].tolist() == [[0, 0], [0, 1]]


def test_not_a_number_is_the_largest_and_minus_infinity_lies_inside():
    features = [[1, np.nan, -np.inf], [np.nan, 2, -np.inf], [0, 0, -np.inf]]
    values, argmax = max_pool_with_argmax(np.array(features, np.float32)[..., None], 2, 2, 1)
    np.testing.assert_array_equal(values[..., 0], [[1, np.nan], [np.nan, 2]])
    assert argmax[..., 0].tolist() == [[0, 1], [3, 4]]
    _, argmax = max_pool_with_argmax(np.full((2, 2, 1), -np.inf, np.float32), 3, 2, 1)
    assert argmax.ravel().tolist() == [0]


def test_padding_beyond_half_a_window_is_refused():
    with pytest.raises(ValueError, match="half"):
        pooling.max_pool_with_argmax(np.zeros((4, 4, 1), np.float32), 3, 2, 2)


@pytest.mark.parametrize(("shape", "size", "padding"), [((1, 1), 2, 0), ((5, 1), 3, 0), ((1, 4), 4, 1)])
def test_a_map_smaller_than_a_window_is_refused(shape, size, padding):
    with pytest.raises(ValueError, match=f"no window of {size} fits into a map of {shape[0]}x{shape[1]}"):
        pooling.max_pool_with_argmax(np.zeros((*shape, 1), np.float32), size, 1, padding)


def check_subsampling(features, stride):
    nearest, nails = map(np.asarray, nearest_and_nails(features, stride))
    for large in (nails, nearest):
        chex.assert_trees_all_equal(large[::stride, ::stride], features)
    assert np.count_nonzero(nails) == np.count_nonzero(features)
    for i in range(stride):
        chex.assert_trees_all_equal(nearest[i::stride, stride - 1 - i :: stride], features)


@modest
@given(hnp.arrays(np.float32, (4, 5, 2), elements=st.floats(-9, 9, width=32)))
def test_subsampling_undoes_a_bed_of_nails(features):
    check_subsampling(features, 3)


@slow
@modest
@given(
    hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.floats(-9, 9, width=32)
    ),
    st.integers(1, 4),
)
def test_subsampling_undoes_a_bed_of_nails_of_any_shape(features, stride):
    check_subsampling(features, stride)


@partial(jax.jit, static_argnums=(2, 3))
def there_and_back(features, values, shape, size):
    _, argmax = pooling.max_pool_with_argmax(features, size, size)
    again = pooling.max_pool_with_argmax(pooling.max_unpool(values, argmax, shape, size, size), size, size)
    return argmax, *again


def check_pooling_undoes_unpooling(seed, size, more_rows, more_columns):
    shape = 2 * size + min(more_rows, size - 1), 3 * size + min(more_columns, size - 1)
    values = np.random.default_rng(seed).uniform(0.1, 1, (2, 3, 2)).astype(np.float32)
    argmax, again, argmax_again = there_and_back(features_of(shape, 2, seed), values, shape, size)
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(argmax_again, argmax)


@modest
@given(st.integers(0, 2**31))
def test_pooling_undoes_max_unpooling_of_positive_values(seed):
    check_pooling_undoes_unpooling(seed, 3, 2, 1)


@slow
@modest
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2))
def test_pooling_undoes_max_unpooling_of_any_shape(seed, size, more_rows, more_columns):
    check_pooling_undoes_unpooling(seed, size, more_rows, more_columns)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_pooling_keeps_the_dtype(dtype):
    features = jax.ShapeDtypeStruct((4, 4, 3), dtype)
    values, argmax = jax.eval_shape(lambda f: pooling.max_pool_with_argmax(f, 3, 2, 1), features)
    larger = jax.eval_shape(lambda v, a: pooling.max_unpool(v, a, (4, 4), 3, 2, 1), values, argmax)
    assert values.dtype == larger.dtype == dtype
    for of_pixels in (unpool_nearest, unpool_bed_of_nails):
        assert jax.eval_shape(of_pixels, features).dtype == dtype


def test_batches_map_and_nothing_is_scattered_or_gathered():
    features = np.stack([features_of((5, 6), seed=seed) for seed in range(2)])

    def there_and_back(features):
        values, argmax = jax.vmap(partial(pooling.max_pool_with_argmax, size=3, padding=1))(features)
        unpool = partial(pooling.max_unpool, shape=(5, 6), size=3, stride=2, padding=1)
        return jax.vmap(unpool)(values, argmax)

    @jax.jit
    def both(features):
        found, pull = jax.vjp(there_and_back, features)
        return found, pull(features)

    compiled = both.lower(features).compile()
    assert "scatter(" not in compiled.as_text()
    assert "gather(" not in compiled.as_text()
    one_by_one = []
    for image in features:
        values, argmax = max_pool_with_argmax(image, 3, 2, 1)
        one_by_one.append(max_unpool(values, argmax, (5, 6), 3, 2, 1))
    chex.assert_trees_all_equal(compiled(features)[0], np.stack(one_by_one))
