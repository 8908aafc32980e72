"""Operations on integers and halves give what the same numbers give in float32; on float64, its precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import ops
from vision_jax.ops.masks import paste_mask, paste_probabilities

slow = pytest.mark.slow
NARROW = [np.uint8, np.int32, jnp.float16, jnp.bfloat16]

# Whole numbers that every dtype holds exactly; sums and products of them that none of the narrow ones holds.
BOXES = np.array([[0, 0, 200, 200], [100, 100, 252, 248], [8, 240, 16, 248], [40, 40, 40, 40]])
OTHERS = np.array([[0, 0, 200, 200], [200, 200, 100, 100], [64, 32, 240, 160], [4, 8, 128, 132]])
SMALL = np.array([[2, 1, 7, 5], [0, 0, 8, 6], [3, 3, 4, 4]])
FEATURES = np.random.default_rng(0).integers(0, 250, (6, 8, 2)) // 2 * 2
THETA = np.array([[1, 0, 0], [0, 2, 1]])


def boxes_by_hand():
    """Areas, IoU and GIoU of `BOXES` against `OTHERS` in Python's numbers."""

    def area(box):
        return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)

    iou, giou = np.zeros((4, 4)), np.zeros((4, 4))
    for i, a in enumerate(BOXES.tolist()):
        for j, b in enumerate(OTHERS.tolist()):
            common = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
            hull = [min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])]
            union = area(a) + area(b) - area(common)
            iou[i, j] = area(common) / union if union else 0
            giou[i, j] = iou[i, j] - ((area(hull) - union) / area(hull) if area(hull) else 0)
    return [area(box) for box in BOXES.tolist()], iou, giou


@pytest.mark.parametrize(
    "dtype", [np.uint8, jnp.float16, *(pytest.param(dtype, marks=slow) for dtype in (np.int32, jnp.bfloat16))]
)
def test_areas_and_ious_of_narrow_boxes(dtype):
    found = jax.jit(lambda a, b: (ops.box_area(a), ops.box_iou(a, b), ops.box_giou(a, b)))(
        BOXES.astype(dtype), OTHERS.astype(dtype)
    )
    for values, expected in zip(found, boxes_by_hand(), strict=True):
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)


def test_ious_that_wrapped_or_overflowed():
    @jax.jit
    def worked(large, small, square, near):
        return {
            "large": (ops.box_iou(*large)[0, 0], ops.box_giou(*large)[0, 0], ops.box_area(large[0])[0]),
            "small": ops.box_iou(*small)[0, 0],
            "square": (ops.box_iou(square, square)[0, 0], ops.box_giou(square, square)[0, 0]),
            "near": (ops.box_iou(near, near)[0], ops.box_giou(near, near)[0]),
        }

    found = worked(
        (np.array([[0, 0, 60000, 60000]], np.int32), np.array([[30000, 0, 90000, 60000]], np.int32)),
        (np.array([[0, 0, 200, 200]], np.uint8), np.array([[100, 100, 250, 250]], np.uint8)),
        np.array([[0, 0, 600, 600]], np.float16),
        np.array([[285.35, 185.58, 1193.5, 851.4], [285.15, 188.7, 1192.5, 851.1]], np.float16),
    )
    assert float(found["large"][0]) == pytest.approx(1 / 3)
    assert float(found["large"][1]) == pytest.approx(1 / 3)
    assert float(found["large"][2]) == 3.6e9
    assert float(found["small"]) == pytest.approx(10_000 / 52_500)
    assert [float(iou) for iou in found["square"]] == [1, 1]
    # Of the numbers before they were rounded to float16, whose step is 1 beyond 1024.
    for ious in found["near"]:
        np.testing.assert_allclose(ious, [1, 0.9936], atol=2e-3)


def test_boxes_are_clipped_in_their_own_dtype():
    several = [BOXES.astype(dtype) for dtype in NARROW]
    # More than float32 holds, and a size beyond the largest float16.
    far = np.array([[-5, 2**24 + 1, 2**30 + 1, 2**30 + 3]], np.int32)
    half = np.array([-1, 2, 3, 4], np.float16)
    found, of_far, of_half = jax.jit(
        lambda several, far, half: (
            [ops.clip_boxes(boxes, (300, 150.5)) for boxes in several],
            ops.clip_boxes(far, (2**30 + 2, 2**30 + 2)),
            ops.clip_boxes(half, (70_000, 70_000)),
        )
    )(several, far, half)
    expected = np.minimum(BOXES, [150, 300, 150, 300])  # 150.5 is none of the integers' and bfloat16's
    for dtype, clipped in zip(NARROW, found, strict=True):
        assert clipped.dtype == dtype
        np.testing.assert_allclose(np.asarray(clipped, np.float64), expected, atol=0.5)
    assert of_far.tolist() == [[0, 2**24 + 1, 2**30 + 1, 2**30 + 2]]
    assert of_half.tolist() == [0, 2, 3, 4]


def nms_of(boxes):
    return ops.nms(boxes, boxes[:, 3], 0.15, 4)


# Each takes arrays; the result of integers and halves must be that of the same numbers in float32.
OPERATIONS = {
    "encode_boxes": (ops.encode_boxes, BOXES, OTHERS),
    "decode_boxes": (ops.decode_boxes, SMALL, OTHERS[:3]),
    "nms": (nms_of, BOXES),
    "roi_align": (lambda f, b: ops.roi_align(f, b, 3, 1.0), FEATURES, SMALL),
    "roi_align, adaptive": (lambda f, b: ops.roi_align(f, b, 2, 1.0, 0, True), FEATURES, SMALL),
    "roi_align, max": (lambda f, b: ops.roi_align(f, b, 2, 1.0, reduce="max"), FEATURES, SMALL),
    "roi_pool": (lambda f, b: ops.roi_pool(f, b, 2, 1.0), FEATURES, SMALL),
    "two levels": (
        lambda f, b: ops.multilevel_roi_align([f, f[::2, ::2]], b, 2, [0.25, 0.125], canonical_size=100),
        FEATURES,
        OTHERS,
    ),
    "crop_masks": (
        lambda b: ops.crop_masks(FEATURES.T.astype(np.uint8), b, np.array([0, 1]), b, 3),
        SMALL[:2],
    ),
    "max_pool": (lambda f: ops.max_pool_with_argmax(f, 3, 2, 1), FEATURES),
    "max_unpool": (
        lambda f: ops.max_unpool(*ops.max_pool_with_argmax(f, 3, 2, 1), (6, 8), 3, 2, 1),
        FEATURES,
    ),
    "unpool": (lambda f: (ops.unpool_nearest(f), ops.unpool_bed_of_nails(f)), FEATURES),
    "sample_bilinear": (lambda f, t: ops.sample_bilinear(f, ops.affine_grid(t, (5, 4))), FEATURES, THETA),
    "attention_grid": (lambda t: ops.attention_grid(t, (4, 4)), THETA[0]),
    "rotation_grid": (lambda t: ops.rotation_grid(t, (4, 6)), np.array(2)),
    "projective_grid": (
        lambda t: ops.projective_grid(t, (3, 3)),
        np.array([[1, 0, 0], [0, 1, 0], [1, 0, 3]]),
    ),
    "thin_plate_spline_grid": (
        lambda t: ops.thin_plate_spline_grid(t, ops.regular_points(2).astype(int), (3, 3)),
        np.array([[0, 0], [2, 0], [0, 1], [1, 1]]),
    ),
    "smooth_l1": (lambda a, b: ops.smooth_l1(a, b, 4.0), BOXES, OTHERS),
    "focal loss": (ops.sigmoid_focal_loss, SMALL, SMALL % 2),
    "dice": (lambda p: ops.dice_loss(p, np.array([[0, 1], [1, -1]])), np.ones((2, 2, 2))),
    "map_used": (
        lambda f: ops.map_used(lambda x: x, f, np.array([True, False, True, False, True, True]), 4),
        FEATURES,
    ),
}
KEEP_THEIR_DTYPE = ("roi", "two levels", "max_", "unpool", "sample_bilinear", "map_used")


# By default each once and in two dtypes.
VARIANTS = ("roi_align, adaptive", "roi_align, max", "two levels", "crop_masks", "max_pool")
PAIRS = {"uint8 and float16": (np.uint8, jnp.float16), "int32 and bfloat16": (np.int32, jnp.bfloat16)}


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        pytest.param(name, pair, marks=slow if name in VARIANTS or pair != "uint8 and float16" else [])
        for name in OPERATIONS
        for pair in PAIRS
    ],
)
def test_narrow_numbers_give_what_float32_gives(name, pair):
    operation, *arrays = OPERATIONS[name]
    several = [[array.astype(dtype) for array in arrays] for dtype in (np.float32, *PAIRS[pair])]
    expected, *found = jax.jit(lambda several: [operation(*arrays) for arrays in several])(several)
    for dtype, values in zip(PAIRS[pair], found, strict=True):
        for value, right in zip(jax.tree.leaves(values), jax.tree.leaves(expected), strict=True):
            kept = name.startswith(KEEP_THEIR_DTYPE) and right.dtype == jnp.float32
            assert value.dtype == (dtype if kept else right.dtype)
            exact = np.asarray(right, np.float64)
            if kept and np.issubdtype(dtype, np.integer):
                assert np.abs(np.asarray(value, np.float64) - exact).max() <= 0.5 + 1e-4
            else:
                step = float(jnp.finfo(value.dtype).eps) if kept else 1e-5
                np.testing.assert_allclose(np.asarray(value, np.float64), exact, rtol=step, atol=1e-5)


def test_float64_keeps_its_precision():
    """Worked on numbers that float32 cannot tell from their neighbors."""
    box, other = np.array([[0, 0, 3 + 1e-12, 1]]), np.array([[0, 0, 1, 1.0]])
    ramp = np.arange(8.0)[None, :, None] + np.zeros((6, 1, 1)) + 1e-12
    regions, masks = np.array([[2, 2, 5 + 1e-12, 4]]), np.full((1, 4, 4), 51, np.uint8)

    def worked(box, other, ramp, regions):
        return {
            "area": ops.box_area(box),
            "iou": ops.box_iou(box, other),
            "giou": ops.box_giou(box, other),
            "ioa": ops.box_ioa(box, other),
            "encoded": ops.encode_boxes(box, other)[:, 0],
            "decoded": ops.decode_boxes(1e-12 * other, 0 * other + other)[:, 1],
            "clipped": ops.clip_boxes(box, (2.0, 3.0))[:, 2],
            "smooth L1": ops.smooth_l1(box, other)[:, 2],
            "focal": ops.sigmoid_focal_loss(0 * box, 1 + 0 * box, -1, 0),
            "dice": ops.dice_loss(other[None, :, :1] + 0.1, jnp.zeros((1, 1), int), False)[0],
            "attention": ops.attention_grid(other[0, 1:] * 1e-12, (1, 1)),
            "rotation": ops.rotation_grid(1e-12 * other[0, 2], (2, 2))[0, 0],
            "roi_align": ops.roi_align(ramp, regions, 1, 1.0),
            "roi_pool": ops.roi_pool(ramp, regions, 1, 1.0),
            # The points alone are float32: what is read is as exact as the image.
            "sampled": ops.sample_bilinear(ramp, jnp.zeros(2, jnp.float32)),
            "crop": ops.crop_masks(masks, regions, jnp.array([0]), regions, 1),
        }

    expected = {
        "area": 3 + 1e-12,
        "iou": 1 / (3 + 1e-12),
        "giou": 1 / (3 + 1e-12),
        "ioa": 1 / (3 + 1e-12),
        "encoded": 1 + 5e-13,
        "decoded": -5e-13,
        "clipped": 3,
        "smooth L1": 1.5 + 1e-12,
        "focal": np.log(2),
        "dice": 1 - 0.2 / 1.1,
        "attention": 1e-12,
        "rotation": [-0.5 + 5e-13, -0.5 - 5e-13],
        "roi_align": 3.5 + 1.5e-12,
        "roi_pool": 5 + 1e-12,
        "sampled": 3.5 + 1e-12,
        "crop": 0.2,
    }
    with jax.enable_x64(True):
        found = jax.jit(worked)(box, other, ramp, regions)
    for name, values in found.items():
        assert values.dtype == jnp.float64, name
        right = np.broadcast_to(expected[name], values.shape)
        np.testing.assert_allclose(values, right, rtol=1e-14, atol=1e-13, err_msg=name)


def test_an_image_of_bytes_has_a_gradient_in_its_points():
    points = np.array([[0.1, -0.2], [0.3, 0.4]], np.float32)

    def total(points, dtype):
        return ops.sample_bilinear(FEATURES.astype(dtype), points).astype(jnp.float32).sum()

    of_floats, of_bytes = jax.jit(lambda p: [jax.grad(total)(p, dtype) for dtype in (np.float32, np.uint8)])(
        points
    )
    assert np.any(of_floats)
    assert not np.any(of_bytes)  # rounded to whole numbers, the values are steps


def test_large_integer_scores_are_told_apart():
    boxes = np.array([[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]], np.int32)
    valid = np.array([True, True, False])
    (indices, there), of_bytes = jax.jit(
        lambda scores, bytes_: (ops.nms(boxes, scores, 0.5, 3), ops.nms(boxes, bytes_, 0.5, 3, valid=valid))
    )(np.array([2**24, 2**24 + 1, -(2**31)], np.int32), np.array([3, 0, 9], np.uint8))
    assert indices.tolist() == [1, 0, 2]
    assert np.all(there)
    assert [array.tolist() for array in of_bytes] == [[0, 1, 0], [True, True, False]]


def test_convolutions_of_integers_do_not_wrap():
    features, kernel = np.full((2, 2, 3), 200, np.uint8), np.full((2, 2, 1, 3), 200, np.uint8)

    @jax.jit
    def worked(features, kernel, half, signal):
        return (
            ops.transposed_convolution(features, kernel, 2),
            ops.transposed_convolution(features, half, 2),
            ops.averaged_transposed_convolution(features, kernel, 1),
            [
                ops.resize_convolution(features, kernel.swapaxes(2, 3), 2, method)
                for method in ("nearest", "bilinear")
            ],
            ops.convolution_matrix_1d(signal, 3),
        )

    found = worked(features, kernel, np.full((2, 2, 1, 3), 0.5, jnp.bfloat16), np.array([200, 100], np.uint8))
    whole, mixed, averaged, resized, matrix = jax.tree.map(np.asarray, found)
    assert whole.tolist() == np.full((4, 4, 1), 120_000).tolist()
    assert (mixed.dtype, mixed[0, 0, 0].item()) == (jnp.bfloat16, 300)
    assert averaged[1, 1, 0] == 120_000
    for larger in resized:
        assert larger[1, 1, 0] == 4 * 120_000
    assert matrix.tolist() == [[200, 100, 0], [0, 200, 100]]


def test_masks_are_pasted_into_boxes_of_any_dtype():
    mask, box = np.ones((4, 4)), np.array([100, 120, 220, 240])
    expected = paste_probabilities(mask.astype(np.float32), box.astype(np.float32), (256, 256))
    assert expected.sum() == pytest.approx(120 * 120, rel=0.02)
    for dtype in [*NARROW, np.float64]:
        found = paste_probabilities(mask.astype(dtype), box.astype(dtype), (256, 256))
        np.testing.assert_array_equal(found, expected)
    far = np.array([40_000, 40_000, 40_032, 40_064], np.float16)  # the corners' sum is beyond float16
    assert paste_mask(mask.astype(np.float16), far, (40_100, 40_100)).sum() > 1000


def test_masks_of_true_and_false_are_whole_coverage():
    masks, frame = np.ones((1, 4, 4), bool), np.array([[0, 0, 8, 8]], np.float32)
    cropped = jax.jit(lambda frame: ops.crop_masks(masks, frame, np.array([0]), frame, 2))(frame)
    np.testing.assert_allclose(cropped, 1)


def test_ious_of_zeros_and_ones_are_matched():
    iou = np.array([[1, 0, 0], [0, 1, 0]], np.uint8)
    halves = np.array([[0.9, 0.5, 0.1]], np.float16)  # 0.9 in float16 is less than 0.9
    of_bytes, of_halves = jax.jit(
        lambda iou, halves: (
            ops.match(iou, np.array([True, True]), 0.3, 0.7),
            ops.match(halves, np.array([True]), 0.3, 0.9),
        )
    )(iou, halves)
    assert of_bytes.tolist() == [0, 1, ops.BACKGROUND]
    assert of_halves.tolist() == [0, ops.BETWEEN, ops.BACKGROUND]
