"""IoU of boxes and box coding: worked numbers, laws, gradients, and boxes without pixels."""

import math

import chex
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.ops import box_area, box_giou, box_ioa, box_iou, clip_boxes, decode_boxes, encode_boxes

modest = settings(max_examples=40, deadline=None)
both_ious = jax.jit(lambda a, b: (box_iou(a, b), box_giou(a, b)))

# Two squares, a point, and a box whose sides run backwards.
BOXES = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [3, 3, 3, 3], [8, 8, 2, 2]], np.float32)


def iou_and_giou(a, b):
    """Compiled, and NumPy's arrays: what is asserted of them is no program of its own."""
    return tuple(map(np.asarray, both_ious(a, b)))


def boxes_of(count, smallest=1):
    """Boxes on an eighth-of-a-pixel lattice, where float32 areas are exact."""

    def lay_out(numbers):
        corner, side = numbers[:, :2], numbers[:, 2:]
        return np.concatenate([corner, corner + side], 1).astype(np.float32) / 8

    corners = hnp.arrays(np.int32, (count, 2), elements=st.integers(-400, 400))
    sides = hnp.arrays(np.int32, (count, 2), elements=st.integers(smallest, 400))
    return st.tuples(corners, sides).map(lambda both: lay_out(np.concatenate(both, 1)))


def test_area_of_worked_boxes():
    areas, of_two_by_two = jax.jit(lambda b: (box_area(b), box_area(b.reshape(2, 2, 4))))(BOXES)
    assert areas.tolist() == [100, 100, 0, 0]
    assert of_two_by_two.tolist() == [[100, 100], [0, 0]]


def test_iou_of_worked_boxes():
    expected = np.zeros((4, 4), np.float32)
    expected[:2, :2] = [[1, 25 / 175], [25 / 175, 1]]
    np.testing.assert_allclose(iou_and_giou(BOXES, BOXES)[0], expected, rtol=1e-6)


def test_ioa_of_worked_boxes():
    found = np.asarray(jax.jit(box_ioa)(BOXES, np.float32([[5, 5, 15, 25], [0, 0, 20, 20]])))
    np.testing.assert_array_equal(found, [[0.25, 1], [1, 1], [0, 0], [0, 0]])


def test_ioa_is_above_a_half_where_the_intersection_is_more_than_half_of_the_area():
    """By the last bit, and with areas that are constants of the program too."""
    rng = np.random.default_rng(0)
    a = np.concatenate([np.zeros((512, 2)), rng.uniform(1, 600, (512, 2))], 1).astype(np.float32)
    halves = np.float32(0.5) * a[:, 2]
    widths = np.stack([np.nextafter(halves, np.float32(0)), halves, np.nextafter(halves, np.float32(1000))])
    b = np.zeros((3, 512, 4), np.float32)
    b[..., 2], b[..., 3] = widths, a[:, 3]

    def pairs(a, b):
        return jax.vmap(lambda one, other: box_ioa(one[None], other)[0])(a, b)

    others = b.swapaxes(0, 1)
    constant = np.asarray(jax.jit(lambda b: pairs(a, b))(others))
    varying = np.asarray(jax.jit(pairs)(a, others))
    intersections, areas = b[..., 2] * b[..., 3], a[:, 2] * a[:, 3]
    expected = (intersections > np.float32(0.5) * areas).T
    np.testing.assert_array_equal(constant > 0.5, expected)
    np.testing.assert_array_equal(varying > 0.5, expected)
    assert expected.any(0).tolist() == [False, False, True]


def test_giou_of_worked_boxes():
    others = np.concatenate([BOXES[:3], np.float32([[20, 0, 30, 10]])])
    giou = iou_and_giou(BOXES, others)[1]
    assert giou[0, 0] == 1
    # Hull of the two squares: 15 x 15, of which 225 - 175 is bare; of the far one: 30 x 10, 100 bare.
    assert giou[0, 1] == pytest.approx(25 / 175 - 50 / 225)
    assert giou[0, 3] == pytest.approx(-100 / 300)
    # A point in a square: nothing shared, nothing bare. A point with itself: an empty hull.
    assert giou[0, 2] == 0
    assert giou[2, 2] == 0


@modest
@given(boxes_of(4), boxes_of(4))
def test_ious_are_symmetric_and_in_range(a, b):
    iou, giou = iou_and_giou(a, b)
    swapped_iou, swapped_giou = iou_and_giou(b, a)
    np.testing.assert_allclose(iou, swapped_iou.T, rtol=1e-6)
    np.testing.assert_allclose(giou, swapped_giou.T, atol=1e-6)
    assert iou.min() >= 0
    assert iou.max() <= 1
    assert giou.min() >= -1
    assert np.all(giou <= iou + 1e-6)
    np.testing.assert_array_equal(np.diagonal(iou_and_giou(a, a)[0]), 1)


@modest
@given(boxes_of(4), st.integers(-64, 64), st.sampled_from([0.5, 2.0, 4.0]))
def test_ious_do_not_depend_on_position_and_scale(boxes, shift, scale):
    moved = (boxes + np.float32(shift)) * np.float32(scale)
    for after, before in zip(iou_and_giou(moved, moved), iou_and_giou(boxes, boxes), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_clip_takes_height_then_width():
    boxes = np.array([[-3, -2, 30, 40], [50, 60, 70, 80]], np.float32)
    expected = np.array([[0, 0, 20, 10], [20, 10, 20, 10]], np.float32)
    clipped, by_array, areas = jax.jit(
        lambda boxes, size: (
            clip_boxes(boxes, (10, 20)),
            clip_boxes(boxes[None], size),
            box_area(clip_boxes(boxes, size)),
        )
    )(boxes, np.array([10, 20]))
    chex.assert_trees_all_equal(clipped, expected)
    chex.assert_trees_all_equal(by_array, expected[None])
    assert areas.tolist()[1] == 0


def test_encode_worked_by_hand():
    anchor = np.array([0, 0, 10, 20], np.float32)
    # Center (15, 15), 20 x 10; the anchor's (5, 10), 10 x 20.
    box = np.array([5, 10, 25, 20], np.float32)
    plain, weighted = jax.jit(lambda b, a: (encode_boxes(b, a), encode_boxes(b, a, (10, 10, 5, 5))))(
        box, anchor
    )
    np.testing.assert_allclose(plain, [1, 0.25, math.log(2), -math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(weighted, [10, 2.5, 5 * math.log(2), -5 * math.log(2)], rtol=1e-6)


def test_decode_worked_by_hand():
    anchor = np.array([[0, 0, 10, 20]], np.float32)
    deltas = np.array([[[1, 0.25, math.log(2), -math.log(2)], [0, 0, 0, 0]]], np.float32)
    decoded = jax.jit(decode_boxes)(deltas, anchor[:, None])  # two classes of one anchor
    np.testing.assert_allclose(decoded, [[[5, 10, 25, 20], [0, 0, 10, 20]]], rtol=1e-6)


def test_decoding_limits_the_size_of_a_box():
    anchor = np.array([-8, -8, 8, 8], np.float32)
    large, cut = jax.jit(
        lambda large, cut: (
            decode_boxes(large, anchor),
            decode_boxes(cut, anchor, (1, 1, 2, 2), max_log_scale=2.0),
        )
    )(np.float32([0, 0, 1e9, 1]), np.float32([0, 0, 4, 8]))
    np.testing.assert_allclose(large, [-500, -8 * math.e, 500, 8 * math.e], rtol=1e-5)
    # The cut comes after the weights.
    np.testing.assert_allclose(np.asarray(cut)[2:], [8 * math.exp(2), 8 * math.exp(2)], rtol=1e-5)


@jax.jit
def there_and_back(boxes, anchors):
    weights = (10.0, 10.0, 5.0, 5.0)
    return decode_boxes(encode_boxes(boxes, anchors, weights), anchors, weights, max_log_scale=10.0)


@modest
@given(boxes_of(4), boxes_of(4))
def test_decoding_undoes_encoding(boxes, anchors):
    # A box far from a small anchor loses digits in the division: up to 200 pixels away from 1/8 here.
    np.testing.assert_allclose(there_and_back(boxes, anchors), boxes, atol=1e-3)


@jax.jit
def encoded_and_gradients(box, anchor):
    encoded = encode_boxes(box, anchor, (10, 10, 5, 5))
    return encoded, jax.jacobian(encode_boxes, argnums=(0, 1))(box, anchor)


@pytest.mark.parametrize("padded", ["box", "anchor", "both"])
def test_encode_is_finite_on_padding(padded):
    real, nothing = np.array([2, 2, 6, 10], np.float32), np.zeros(4, np.float32)
    box = real if padded == "anchor" else nothing
    anchor = real if padded == "box" else nothing
    deltas, gradients = encoded_and_gradients(box, anchor)
    expected = {"box": [-10, -7.5, 0, 0], "anchor": [40, 60, 0, 0], "both": [0, 0, 0, 0]}[padded]
    np.testing.assert_allclose(deltas, expected)
    assert np.isfinite(gradients).all()


@jax.jit
def gradients_of_a(a, b):
    """Of the sum of each box's IoUs, once IoU and once GIoU."""
    _, pullback = jax.vjp(lambda a: both_ious(a, b), a)
    ones, zeros = jnp.ones((4, 4)), jnp.zeros((4, 4))
    return pullback((ones, zeros))[0], pullback((zeros, ones))[0]


def test_ious_of_boxes_without_pixels_have_finite_gradients():
    padding_and_far = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1e6, 1e6, 1e6, 1e6], [0, 0, 10, 10]], np.float32)
    for a, b in [(BOXES, BOXES), (BOXES, padding_and_far), (padding_and_far, BOXES)]:
        for array in (*iou_and_giou(a, b), *gradients_of_a(a, b)):
            assert np.isfinite(array).all()


def test_giou_pulls_distant_boxes_together_where_iou_does_not():
    by_iou, by_giou = map(np.asarray, gradients_of_a(BOXES, np.tile(np.float32([20, 0, 30, 10]), (4, 1))))
    assert np.all(by_iou == 0)
    assert by_giou[0, 2] > 0  # the square's right side, towards the other box


def test_gradients_against_finite_differences():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 20, (2, 4, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 25, (2, 4, 2))], -1)
    deltas = random.normal(0, 0.5, (1, 4, 4))
    mix = random.normal(size=(4, 4, 4))
    weights = (10.0, 10.0, 5.0, 5.0)

    def four_ops(numbers):
        a, b, deltas = numbers.reshape(3, 4, 4)
        outputs = [
            box_iou(a, b),
            box_giou(a, b),
            encode_boxes(a, b, weights),
            decode_boxes(deltas, b, weights),
        ]
        return jnp.sum(mix * jnp.stack(outputs))

    numbers = np.concatenate([boxes, deltas]).ravel()
    nudges = 1e-5 * np.eye(numbers.size)
    with jax.enable_x64(True):
        several = jax.jit(jax.vmap(four_ops))
        ahead, behind = np.asarray(several(numbers + nudges)), np.asarray(several(numbers - nudges))
        gradient = jax.jit(jax.grad(four_ops))(numbers)
    assert gradient.dtype == ahead.dtype == np.float64
    np.testing.assert_allclose(gradient, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-7)
