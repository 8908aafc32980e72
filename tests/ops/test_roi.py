"""RoIAlign and RoIPool: worked numbers, a slow reference, gradients, levels, and boxes in odd positions."""

import math
from functools import partial

import chex
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from vision_jax.ops import roi

STATIC = ("output_size", "spatial_scale", "sampling_ratio", "aligned", "reduce")
aligned_regions = jax.jit(roi.roi_align, static_argnames=STATIC)
pooled_regions = jax.jit(roi.roi_pool, static_argnames=STATIC[:2])

slow = pytest.mark.slow
modest = settings(max_examples=15, deadline=None)
COLUMNS = np.tile(np.arange(4, dtype=np.float32)[None, :, None], (4, 1, 1))
GRID = np.arange(16, dtype=np.float32).reshape(4, 4, 1)


def roi_align(features, boxes, *args, **options):
    """Compiled, and NumPy's array: what is asserted of it is no program of its own."""
    return np.asarray(aligned_regions(features, np.asarray(boxes, np.float32), *args, **options))


def roi_pool(features, boxes, *args):
    """Compiled, and NumPy's array."""
    return np.asarray(pooled_regions(features, np.asarray(boxes, np.float32), *args))


def axis_samples(low, high, bins, ratio, aligned):
    """Positions of each bin's samples along one axis, in cells."""
    start, end = (low - 0.5, high - 0.5) if aligned else (low, max(high, low + 1))
    width = (end - start) / bins
    count = ratio or math.ceil(width)
    return [[start + i * width + (s + 0.5) * width / count for s in range(count)] for i in range(bins)]


def bilinear(features, y, x):
    """One bilinear sample: zero farther than a cell outside, the border's value nearer."""
    height, width, channels = features.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(channels)
    near_row = np.maximum(0, 1 - abs(np.clip(y, 0, height - 1) - np.arange(height)))
    near_column = np.maximum(0, 1 - abs(np.clip(x, 0, width - 1) - np.arange(width)))
    return near_row @ (near_column @ features)


def slow_align(features, boxes, size, ratio, aligned, reduce=np.mean):
    pooled = np.zeros((len(boxes), *size, features.shape[-1]))
    for r, (x1, y1, x2, y2) in enumerate(boxes):
        rows = axis_samples(y1, y2, size[0], ratio, aligned)
        columns = axis_samples(x1, x2, size[1], ratio, aligned)
        for i in range(size[0]):
            for j in range(size[1]):
                samples = [bilinear(features, y, x) for y in rows[i] for x in columns[j]]
                pooled[r, i, j] = reduce(samples, axis=0) if samples else 0
    return pooled


def slow_pool(features, boxes, size):
    """Also returns the gradient of the sum of all maxima: a one for the first maximum of each bin."""
    height, width, channels = features.shape
    pooled, gradient = np.zeros((len(boxes), *size, channels)), np.zeros_like(features)
    for r, box in enumerate(boxes):
        x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in box)
        tall, wide = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
        for i, j, c in np.ndindex(*size, channels):
            top, bottom = y1 + i * tall // size[0], y1 - (-(i + 1) * tall // size[0])
            left, right = x1 + j * wide // size[1], x1 - (-(j + 1) * wide // size[1])
            cells = [
                (y, x)
                for y in range(max(top, 0), min(bottom, height))
                for x in range(max(left, 0), min(right, width))
            ]
            if cells:
                best = max(cells, key=lambda cell: features[*cell, c])
                pooled[r, i, j, c] = features[*best, c]
                gradient[*best, c] += 1
    return pooled, gradient


def lattice_boxes(count, smallest=-4):
    """Boxes on eighths of a cell around a map of 6 x 5: inside, outside, across the border, inside out."""
    corners = hnp.arrays(np.int32, (count, 2), elements=st.integers(-40, 80))
    sides = hnp.arrays(np.int32, (count, 2), elements=st.integers(smallest, 100))
    return st.tuples(corners, sides).map(
        lambda both: np.concatenate([both[0], both[0] + both[1]], 1).astype(np.float32) / 8
    )


FEATURES = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)
SIZE = (2, 4)


@jax.jit
def pooled_and_gradient_of_sum(features, boxes):
    def total(features):
        pooled = roi.roi_pool(features, boxes, SIZE, 1.0)
        return pooled.sum(), pooled

    gradient, pooled = jax.grad(total, has_aux=True)(features)
    return pooled, gradient


def test_align_averages_samples_worked_by_hand():
    boxes = np.array([[1, 0, 3, 4]])
    # Samples at 1.5 and 2.5; half a cell less where a cell's center is at +0.5.
    assert roi_align(COLUMNS, boxes, 1, 1.0).item() == 2.0
    assert roi_align(COLUMNS, boxes, 1, 1.0, aligned=True).item() == 1.5
    # The same box in an image of twice the size.
    assert roi_align(COLUMNS, 2 * boxes, 1, 0.5, aligned=True).item() == 1.5
    # Two columns of bins, one sample each.
    pooled = roi_align(COLUMNS, boxes, (1, 2), 1.0, sampling_ratio=1)
    assert pooled.tolist() == [[[[1.5], [2.5]]]]


@pytest.mark.parametrize(
    ("aligned", "ratio"),
    [
        (False, 2),
        *(
            pytest.param(*case, marks=slow)
            for case in [(False, 1), (False, 3), (True, 1), (True, 2), (True, 3)]
        ),
    ],
)
@modest
@given(boxes=lattice_boxes(3))
def test_align_takes_the_largest_sample(aligned, ratio, boxes):
    pooled = roi_align(FEATURES, boxes, SIZE, 1.0, sampling_ratio=ratio, aligned=aligned, reduce="max")
    np.testing.assert_allclose(pooled, slow_align(FEATURES, boxes, SIZE, ratio, aligned, np.max), atol=1e-5)


def test_the_largest_sample_alone_receives_the_gradient():
    boxes = np.array([[1, 0, 3, 4]], np.float32)
    largest = jax.jit(jax.grad(lambda f: roi.roi_align(f, boxes, 1, 1.0, reduce="max").sum()))
    gradient = np.asarray(largest(COLUMNS + np.float32(0.1) * GRID))
    # Of samples at rows 1 and 3 and columns 1.5 and 2.5 the last: halfway between columns 2 and 3.
    expected = np.zeros((4, 4))
    expected[3, 2:] = 0.5
    np.testing.assert_allclose(gradient[..., 0], expected)
    with pytest.raises(ValueError, match="adaptive"):
        roi_align(COLUMNS, boxes, 1, 1.0, sampling_ratio=0, reduce="max")


def test_align_widens_a_point_to_a_cell_unless_aligned():
    point = np.ones((1, 4))
    assert roi_align(COLUMNS, point, 1, 1.0).item() == 1.5
    assert roi_align(COLUMNS, point, 1, 1.0, aligned=True).item() == 0.5


def test_align_samples_near_the_border_take_its_value_and_farther_ones_nothing():
    ones = np.ones((4, 4, 1), np.float32)
    # Samples at x = -1.5 and -0.5: one counts as zero, one as the border.
    assert roi_align(ones, [[-2, 0, 0, 4]], 1, 1.0).item() == 0.5
    # Samples at 3.5 and 4.5 of a map that ends at 4.
    assert roi_align(ones, [[3, 0, 5, 4]], 1, 1.0).item() == 0.5
    assert roi_align(ones, [[50, 50, 90, 90]], 2, 1.0).tolist() == [[[[0], [0]], [[0], [0]]]]


@pytest.mark.parametrize(
    ("ratio", "aligned"),
    [
        (0, False),
        (2, True),
        *(
            pytest.param(*case, marks=slow)
            for case in [(0, True), (1, False), (1, True), (2, False), (3, False), (3, True)]
        ),
    ],
)
@modest
@given(boxes=lattice_boxes(3))
def test_align_equals_the_definition(ratio, aligned, boxes):
    if ratio in (0, 3):
        # Thirds round: a sample on the very edge of what counts may fall on either side.
        for low, high, bins, limit in ((0, 2, SIZE[1], 5), (1, 3, SIZE[0], 6)):
            for box in boxes.astype(float):
                positions = np.ravel(axis_samples(box[low], box[high], bins, ratio, aligned))
                assume(not np.any(np.minimum(abs(positions + 1), abs(positions - limit)) < 1e-4))
    expected = slow_align(FEATURES.astype(float), boxes.astype(float), SIZE, ratio, aligned)
    pooled = roi_align(FEATURES, boxes, SIZE, 1.0, ratio, aligned)
    np.testing.assert_allclose(pooled, expected, atol=2e-5)


def test_adaptive_sampling_takes_as_many_samples_as_a_bin_has_cells():
    # Bins of exactly two cells; 14 times the float32 reciprocal of 7 is a little more than 2.
    spike = np.zeros((20, 20, 1), np.float32)
    spike[3, 3] = 1
    pooled = roi_align(spike, [[0, 0, 14, 14]], 7, 1.0, sampling_ratio=0)
    # Samples at 2.5 and 3.5 both reach cell 3 by half: (1/2)**2 on average.
    assert pooled[0, 1, 1, 0] == 0.25


@pytest.mark.parametrize("ratio", [2, pytest.param(0, marks=slow)])
def test_align_gradient_equals_finite_differences(ratio):
    boxes = [[0.3, -1.2, 4.4, 5.9], [-3, 2, 9, 2.1], [2, 2, 2, 2], [20, 20, 30, 30]]
    with jax.enable_x64(True):
        features, boxes = jnp.asarray(FEATURES, float), jnp.asarray(boxes, float)
        pooled = jax.jit(lambda f: roi.roi_align(f, boxes, SIZE, 1.0, ratio))
        # Linear in the features, so differences are exact.
        check_grads(pooled, (features,), order=1, modes=("rev",), atol=1e-7, rtol=1e-7)


def test_pool_takes_maxima_worked_by_hand():
    worked = {
        (0, 0, 3, 3): [[6, 8], [14, 16]],
        # Both ends count, so three cells make two overlapping bins of two.
        (0, 0, 2, 2): [[6, 7], [10, 11]],
        # Halves round away from zero: 0.5 to 1, 1.5 to 2, -0.5 to -1.
        (0.5, 0.5, 1.5, 1.5): [[6, 7], [10, 11]],
        (-0.5, 0, 0, 0): [[0, 1], [0, 1]],
        (10, 10, 12, 12): [[0, 0], [0, 0]],
    }
    boxes = np.array(list(worked))
    assert roi_pool(GRID + 1, boxes, 2, 1.0)[..., 0].tolist() == list(worked.values())
    # An empty bin is 0, not the largest of what is negative.
    assert roi_pool(GRID - 16, boxes, 2, 1.0)[[0, 4], 1, 1, 0].tolist() == [-1, 0]


@modest
@given(boxes=lattice_boxes(3, smallest=-16), relu=st.booleans())
def test_pool_and_its_gradient_equal_the_definition(boxes, relu):
    features = np.maximum(FEATURES, 0) if relu else FEATURES
    pooled, gradient = slow_pool(features, boxes, SIZE)
    found = pooled_and_gradient_of_sum(features, boxes)
    np.testing.assert_array_equal(found[0], pooled)
    np.testing.assert_array_equal(found[1], gradient)


def test_the_first_of_equal_maxima_receives_the_gradient():
    box = np.array([[0, 0, 7, 3]], np.float32)
    features = np.zeros((4, 8, 1), np.float32)
    gradient = np.asarray(pooled_and_gradient_of_sum(features, box)[1])
    expected = np.zeros((4, 8))
    expected[::2, ::2] = 1
    np.testing.assert_array_equal(gradient[..., 0], expected)
    # In row-major order, the end of a bin's first row comes before the start of its second.
    features[0, 1] = features[1, 0] = 1
    gradient = np.asarray(pooled_and_gradient_of_sum(features, box)[1])
    assert gradient[:2, :2, 0].tolist() == [[0, 1], [0, 0]]


@slow  # by default, the gradient of the sum against the definition
def test_pool_gradient_equals_finite_differences():
    boxes = [[0.3, -1.2, 4.4, 5.9], [-3, 2, 9, 2.1], [2, 2, 2, 2], [20, 20, 30, 30]]
    with jax.enable_x64(True):
        features, boxes = jnp.asarray(FEATURES, float), jnp.asarray(boxes, float)
        pooled = jax.jit(lambda f: roi.roi_pool(f, boxes, SIZE, 1.0))
        check_grads(pooled, (features,), order=1, modes=("rev",), eps=1e-5)


SCALES = (1 / 4, 1 / 8, 1 / 16)


def pyramid(seed=1, channels=3):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(s, s + 1, channels)).astype(np.float32) for s in (16, 8, 4)]


def test_levels_worked_by_hand():
    sides = np.array([1, 111, 112, 223, 224, 447, 448, 5000])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], 1).astype(np.float32)
    levels = jax.jit(roi.box_levels, static_argnums=(1, 2))
    # Strides 4, 8, 16 are levels 2, 3, 4; 224 pixels belong on level 4.
    assert levels(boxes, SCALES).tolist() == [0, 0, 1, 1, 2, 2, 2, 2]
    assert levels(boxes, SCALES, 448).tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    # The area decides, not a side; a box without one is small.
    odd = np.array([[0, 0, 448, 112], [5, 5, 5, 5], [9, 9, 3, 20], [9, 9, 3, 3]] * 2, np.float32)
    assert levels(odd, SCALES).tolist() == [2, 0, 0, 0] * 2
    assert levels(odd, (1 / 16,)).tolist() == [0, 0, 0, 0] * 2


@pytest.mark.parametrize(
    "multilevel", [roi.multilevel_roi_align, pytest.param(roi.multilevel_roi_pool, marks=slow)]
)
def test_each_box_reads_its_own_level_alone(multilevel):
    maps = pyramid()
    boxes = [[3, 4, 40, 50], [0, 0, 64, 64], [10, 20, 30, 40], [-9, 0, 70, 60], [5, 5, 5, 5]]
    boxes = np.array(boxes, np.float32)
    # 32 pixels belong on level 3, of stride 8.
    levels, own_levels = [1, 2, 0, 2, 0], {"canonical_size": 32, "canonical_level": 3}

    @jax.jit
    def pooled_and_gradient(maps):
        pooled, pull = jax.vjp(lambda maps: multilevel(maps, boxes, SIZE, SCALES, **own_levels), maps)
        return pooled, pull(jnp.ones_like(pooled))[0]

    pooled, gradients = jax.tree.map(np.asarray, pooled_and_gradient(maps))
    for level, (features, scale) in enumerate(zip(maps, SCALES, strict=True)):
        own = np.array(levels) == level
        args = features.astype(float), boxes[own] * scale, SIZE
        aligned = multilevel is roi.multilevel_roi_align
        expected = slow_align(*args, 2, False) if aligned else slow_pool(*args)[0]
        np.testing.assert_allclose(pooled[own], expected, atol=1e-5)
        # Both operators scale with the features, so features times gradient is the value (Euler).
        np.testing.assert_allclose((features * gradients[level]).sum(), expected.sum(), atol=1e-4)


@pytest.mark.parametrize("ratio", [2, pytest.param(0, marks=slow), pytest.param(None, marks=slow)])
def test_a_batch_of_images_equals_its_images(ratio):
    rng = np.random.default_rng(2)
    maps = [np.stack(both) for both in zip(pyramid(3), pyramid(4), strict=True)]
    boxes = rng.uniform(-10, 70, (2, 5, 4)).astype(np.float32)
    weights = rng.normal(size=(2, 5, 2, 2, 3)).astype(np.float32)

    def value_and_gradient(maps, boxes, weights):
        def total(maps):
            if ratio is None:
                pooled = roi.multilevel_roi_pool(maps, boxes, 2, SCALES, canonical_size=32, canonical_level=3)
            else:
                pooled = roi.multilevel_roi_align(maps, boxes, 2, SCALES, ratio, False, 32, 3)
            return (pooled * weights).sum(), pooled

        return jax.value_and_grad(total, has_aux=True)(maps)

    alone = jax.jit(value_and_gradient)
    batch = jax.jit(jax.vmap(value_and_gradient))(maps, boxes, weights)
    images = [alone([m[i] for m in maps], boxes[i], weights[i]) for i in range(2)]
    chex.assert_trees_all_close(batch, jax.tree.map(lambda *both: np.stack(both), *images), atol=1e-5)


SPREAD = np.array([[2, 2, 25, 28]], np.float32)
HALF = np.full((30, 30, 2), 1.01, jnp.bfloat16)


def test_half_precision_is_kept_and_is_summed_in_single():
    def total(features):
        pooled = roi.roi_align(features, SPREAD, 2, 1.0)
        return pooled.astype(jnp.float32).sum(), pooled

    gradient, pooled = jax.jit(jax.grad(total, has_aux=True))(HALF)
    assert pooled.dtype == gradient.dtype == jnp.bfloat16
    assert (np.asarray(pooled) == HALF[0, 0]).all()
    assert np.asarray(gradient).astype(np.float32).sum() == pytest.approx(8, rel=1e-2)


@slow
def test_half_precision_is_kept_in_adaptive_sampling_and_in_pooling():
    for pooled in (roi_align(HALF, SPREAD, 2, 1.0, sampling_ratio=0), roi_pool(HALF, SPREAD, 2, 1.0)):
        assert pooled.dtype == jnp.bfloat16
        assert (pooled == HALF[0, 0]).all()


def test_no_boxes_at_all():
    none = np.zeros((0, 4))
    for ratio in (0, 2):
        assert roi_align(GRID, none, 3, 1.0, ratio).shape == (0, 3, 3, 1)
    assert roi_pool(GRID, none, (2, 3), 1.0).shape == (0, 2, 3, 1)


def test_boxes_receive_no_gradient():
    @jax.jit
    @jax.grad
    def gradient(boxes):
        return sum(pool(GRID, boxes, 2, 1.0).sum() for pool in (roi.roi_align, adaptive, roi.roi_pool))

    adaptive = partial(roi.roi_align, sampling_ratio=0)
    assert not np.any(gradient(np.array([[0.2, 0.4, 2.9, 3.1]], np.float32)))


def test_boxes_that_are_not_numbers_read_nothing():
    ones = np.ones((4, 4, 1), np.float32)
    inf, nan = np.inf, np.nan
    boxes = [[nan, nan, nan, nan], [0, 0, inf, inf], [-inf, 0, 3, 3], [0, nan, 3, 3], [0, 0, 3, 3]]
    expected = [0, 0, 0, 0, 1]
    assert roi_align(ones, boxes, 1, 1.0)[:, 0, 0, 0].tolist() == expected
    assert roi_align(ones, boxes, 1, 1.0, sampling_ratio=0)[:, 0, 0, 0].tolist() == expected
    assert roi_pool(ones, boxes, 1, 1.0)[-1].item() == 1


def test_what_cannot_be_meant_is_refused():
    box = np.ones((1, 4), np.float32)
    with pytest.raises(ValueError, match="sampling_ratio is -1"):
        roi_align(GRID, box, 2, 1.0, sampling_ratio=-1)
    with pytest.raises(ValueError, match="half the one before"):
        jax.eval_shape(lambda: roi.multilevel_roi_align([GRID, GRID], box, 2, [1 / 4, 1 / 16]))
    with pytest.raises(ValueError, match="2 feature maps but 1"):
        jax.eval_shape(lambda: roi.multilevel_roi_pool([GRID, GRID], box, 2, [1 / 4]))
