"""Operations on nothing (no boxes, truths, classes, points, images), and on arrays that do not agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import ops
from vision_jax.ops.masks import paste_mask

NONE, TWO = np.zeros((0, 4), np.float32), np.array([[0, 0, 4, 4], [1, 1, 3, 5]], np.float32)
MAP, FRAMES = np.ones((5, 6, 3), np.float32), np.ones((2, 4, 4), np.uint8)
NOBODY, NOBODYS = np.zeros(0, bool), np.zeros(0, np.int32)
KEY = jnp.zeros(2, jnp.uint32)


def roi_align(features, boxes, ratio=2):
    return ops.multilevel_roi_align([features, features[::2, ::2]], boxes, 2, [1.0, 0.5], ratio)


# Functions of the arrays that follow, and the shapes that they must give.
EMPTY = {
    "areas": (ops.box_area, [NONE], [(0,)]),
    "IoU of none with two": (ops.box_iou, [NONE, TWO], [(0, 2)]),
    "IoU of two with none": (ops.box_iou, [TWO, NONE], [(2, 0)]),
    "IoA of two with none": (ops.box_ioa, [TWO, NONE], [(2, 0)]),
    "GIoU": (ops.box_giou, [NONE, NONE], [(0, 0)]),
    "clip": (lambda b: ops.clip_boxes(b, (3, 3)), [NONE], [(0, 4)]),
    "encode": (ops.encode_boxes, [NONE, NONE], [(0, 4)]),
    "decode no class": (ops.decode_boxes, [np.zeros((2, 0, 4), np.float32), TWO[:, None]], [(2, 0, 4)]),
    "nms": (lambda b, s: ops.nms(b, s, 0.5, 3), [NONE, NONE[:, 0]], [(3,), (3,)]),
    "nms that keeps none": (lambda b, s: ops.nms(b, s, 0.5, 0), [TWO, TWO[:, 0]], [(0,), (0,)]),
    "batched nms": (lambda b, s: ops.batched_nms(b, s, NOBODYS, 0.5, 1), [NONE, NONE[:, 0]], [(1,), (1,)]),
    "match no proposal": (lambda o: ops.match(o, TWO[:, 0] > 0, 0.3, 0.7, True), [NONE.T[:2]], [(0,)]),
    "match no truth": (lambda o: ops.match(o, NOBODY, 0.3, 0.7, True), [NONE], [(4,)]),
    "match nothing": (lambda o: ops.match(o, NOBODY, 0.3, 0.7), [NONE[:, :0]], [(0,)]),
    "roi_align": (roi_align, [MAP, NONE], [(0, 2, 2, 3)]),
    "roi_align, adaptive": (lambda f, b: roi_align(f, b, 0), [MAP, NONE], [(0, 2, 2, 3)]),
    "roi_align, max": (lambda f, b: ops.roi_align(f, b, 2, 1.0, reduce="max"), [MAP, NONE], [(0, 2, 2, 3)]),
    "roi_align of no channel": (roi_align, [MAP[..., :0], TWO], [(2, 2, 2, 0)]),
    "roi_align of no bin": (lambda f, b: ops.roi_align(f, b, 0, 1.0), [MAP, TWO], [(2, 0, 0, 3)]),
    "roi_align of no cell": (roi_align, [MAP[:0], TWO], [(2, 2, 2, 3)]),
    "roi_pool": (lambda f, b: ops.roi_pool(f, b, 2, 1.0), [MAP, NONE], [(0, 2, 2, 3)]),
    "roi_pool of no channel": (lambda f, b: ops.roi_pool(f, b, 2, 1.0), [MAP[..., :0], TWO], [(2, 2, 2, 0)]),
    "roi_pool of no cell": (lambda f, b: ops.roi_pool(f, b, 2, 1.0), [MAP[:, :0], TWO], [(2, 2, 2, 3)]),
    "crop no object": (lambda b: ops.crop_masks(FRAMES[:0], b, NOBODYS, b, 3), [NONE], [(0, 3, 3)]),
    "crop no box": (lambda b: ops.crop_masks(FRAMES, TWO, NOBODYS, b, 3), [NONE], [(0, 3, 3)]),
    "crop boxes of no object": (
        lambda b: ops.crop_masks(FRAMES[:0], NONE, np.array([0, 0]), b, 3),
        [TWO],
        [(2, 3, 3)],
    ),
    "crop to no cell": (lambda b: ops.crop_masks(FRAMES, TWO, np.array([0, 1]), b, 0), [TWO], [(2, 0, 0)]),
    "crop masks of no cell": (
        lambda b: ops.crop_masks(FRAMES[:, :0], TWO, np.array([0, 1]), b, 2),
        [TWO],
        [(2, 2, 2)],
    ),
    "sample no point": (ops.sample_bilinear, [MAP, np.zeros((0, 3, 2), np.float32)], [(0, 3, 3)]),
    "sample no channel": (ops.sample_bilinear, [MAP[..., :0], np.zeros((4, 2), np.float32)], [(4, 0)]),
    "a grid of no pixel": (
        lambda t: ops.affine_grid(t, (0, 3)),
        [np.eye(3, dtype=np.float32)[:2]],
        [(0, 3, 2)],
    ),
    "pool no channel": (ops.max_pool_with_argmax, [MAP[..., :0]], [(2, 3, 0), (2, 3, 0)]),
    "pool overlapping windows": (
        lambda f: ops.max_unpool(*ops.max_pool_with_argmax(f, 3, 2, 1), (5, 6), 3, 2, 1),
        [MAP[..., :0]],
        [(5, 6, 0)],
    ),
    "unpool": (ops.unpool_nearest, [MAP[:0]], [(0, 12, 3)]),
    "bed of nails": (ops.unpool_bed_of_nails, [MAP[:, :, :0]], [(10, 12, 0)]),
    "smooth L1": (ops.smooth_l1, [NONE, NONE], [(0, 4)]),
    "focal loss": (ops.sigmoid_focal_loss, [NONE, NONE], [(0, 4)]),
    "Dice of no class": (
        lambda p: ops.dice_loss(p, np.zeros((5, 6), np.int32))[0],
        [MAP[..., :0]],
        [()],
    ),
    "Dice of no pixel": (lambda p: ops.dice_loss(p, np.zeros((0, 6), np.int32))[0], [MAP[:0]], [()]),
    "chunks": (lambda x: ops.map_used(lambda x: 2 * x, x, NOBODY, 4), [NONE], [(0, 4)]),
    "convolution of no channel": (
        lambda f: ops.transposed_convolution(f, np.zeros((2, 2, 4, 0), np.float32), 2),
        [MAP[..., :0]],
        [(10, 12, 4)],
    ),
}


# By default one of each operation.
BY_DEFAULT = (
    *("areas", "IoU of none with two", "encode", "decode no class", "nms", "match no truth", "roi_align"),
    *("crop no box", "sample no point", "pool no channel", "unpool", "focal loss", "Dice of no class"),
    *("chunks", "convolution of no channel"),
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in BY_DEFAULT else pytest.mark.slow) for name in EMPTY]
)
def test_an_empty_input_gives_an_empty_output(name):
    """Compiled, over a batch of two, over a batch of no image, and with its gradient."""
    function, arrays, shapes = EMPTY[name]

    def total(*arrays):
        return sum(jnp.sum(out) for out in jax.tree.leaves(function(*arrays)) if out.dtype == jnp.float32)

    @jax.jit
    def all_of_them(two, none):
        alone = function(*(array[0] for array in two))
        differentiable = jax.tree.leaves(jax.eval_shape(function, *arrays))[0].dtype == jnp.float32
        slopes = jax.grad(total, tuple(range(len(arrays))))(*(a[0] for a in two)) if differentiable else ()
        return alone, jax.vmap(function)(*two), jax.vmap(function)(*none), slopes

    two, none = [np.stack([a, a]) for a in arrays], [np.zeros((0, *a.shape), a.dtype) for a in arrays]
    alone, of_two, of_none, slopes = all_of_them(two, none)
    for found, leading in ((alone, ()), (of_two, (2,)), (of_none, (0,))):
        leaves = jax.tree.leaves(found)
        assert [leaf.shape for leaf in leaves] == [(*leading, *shape) for shape in shapes]
        for leaf in leaves:
            assert not np.any(leaf) or name == "match no truth"  # zeros, none of them NaN; BACKGROUND is -1
    for slope, array in zip(slopes, arrays, strict=False):
        assert slope.shape == array.shape
        assert not np.any(slope)


def test_sampling_among_no_anchor():
    for size in (0, 3):
        indices, positive, valid = jax.jit(lambda k, n=size: ops.sample_balanced(k, NOBODY, NOBODY, n, 0.5))(
            KEY
        )
        assert indices.shape == positive.shape == valid.shape == (size,)
        assert not valid.any()


def test_anchors_of_no_size_position_or_level():
    assert ops.base_anchors([], [1.0]).shape == (0, 4)
    assert ops.grid_anchors((2, 3), (8, 8), ops.base_anchors([], [1.0])).shape == (0, 4)
    assert ops.pyramid_anchors((32, 32), [(0, 4)], [[8]], [1.0])[0].shape == (0, 4)
    assert ops.pyramid_anchors((32, 32), [], [], [1.0]) == []
    for sizes, ratios in (
        ([0.0], [1.0]),
        ([8.0], [0.0, 1.0]),
        ([-8.0], [1.0]),
        ([np.nan], [1.0]),
        ([8.0], [-1.0]),
    ):
        with pytest.raises(ValueError, match="positive, finite"):
            ops.base_anchors(sizes, ratios)


def test_a_mask_without_cells_or_a_position_has_no_pixel():
    assert not paste_mask(np.zeros((0, 0), np.float32), TWO[0], (8, 8)).any()
    assert not paste_mask(np.ones((2, 2), np.float32), TWO[0] * np.nan, (8, 8)).any()
    assert paste_mask(np.ones((2, 2), np.float32), TWO[0], (0, 8)).shape == (0, 8)


THREE, FOUR = np.zeros((3, 4), np.float32), np.zeros((4, 4), np.float32)
DISAGREEING = {
    "nms": (lambda: ops.nms(THREE, FOUR[0], 0.5, 4), "boxes [3, 4], scores [4]"),
    "nms's valid": (lambda: ops.nms(THREE, THREE[:, 0], 0.5, 4, valid=FOUR[0] > 0), "valid [4]"),
    "batched nms": (
        lambda: ops.batched_nms(THREE, THREE[:, 0], NOBODYS, 0.5, 4),
        "boxes [3, 4], scores [3], groups [0]",
    ),
    "match": (lambda: ops.match(THREE, FOUR[0] > 0, 0.3, 0.7), "iou [3, 4], valid [4]"),
    "match one": (lambda: ops.match(THREE, FOUR[0, :1] > 0, 0.3, 0.7), "iou [3, 4], valid [1]"),
    "sample": (
        lambda: ops.sample_balanced(KEY, FOUR[0] > 0, THREE[:, 0] > 0, 4, 0.5),
        "positive [4], negative [3]",
    ),
    "frames": (lambda: ops.crop_masks(FRAMES, THREE, NOBODYS, NONE, 2), "masks [2, 4, 4], frames [3, 4]"),
    "objects": (lambda: ops.crop_masks(FRAMES, TWO, NOBODYS, THREE, 2), "which [0], boxes [3, 4]"),
    "chunks": (lambda: ops.map_used(lambda x: x, THREE, FOUR[0] > 0, 2), "inputs [3, 4], used [4]"),
    "spline": (
        lambda: ops.thin_plate_spline_grid(np.zeros((5, 2)), ops.regular_points(2), (2, 2)),
        "theta [5, 2], control [4, 2]",
    ),
    "levels": (lambda: ops.multilevel_roi_align([MAP], TWO, 2, [1.0, 0.5]), "1 feature maps but 2"),
    "no level": (lambda: ops.multilevel_roi_pool([], TWO, 2, []), "spatial_scales are ()"),
    "scale": (lambda: ops.roi_align(MAP, TWO, 2, 0.0), "spatial_scales are (0.0,)"),
    "switches": (
        lambda: ops.max_unpool(MAP, np.zeros((5, 6, 2), np.int32), (10, 12)),
        "values are [5, 6, 3], argmax [5, 6, 2]",
    ),
    "pooled shape": (
        lambda: ops.max_unpool(MAP, np.zeros((5, 6, 3), np.int32), (4, 4)),
        "has [2, 2] windows",
    ),
    "labels": (lambda: ops.dice_loss(MAP, np.zeros((1, 6), np.int32)), "labels [1, 6] differ"),
    "image": (lambda: ops.sample_bilinear(MAP[:0], np.zeros((1, 2))), "[0, 6, 3] has no pixel"),
    "outputs": (lambda: ops.nms(THREE, THREE[:, 0], 0.5, -1), "max_outputs is -1"),
    "fraction": (lambda: ops.sample_balanced(KEY, NOBODY, NOBODY, 4, 1.5), "positive_fraction 1.5"),
    "bins": (lambda: ops.roi_align(MAP, TWO, (2, -1), 1.0), "output_size is (2, -1)"),
    "chunk": (lambda: ops.map_used(lambda x: x, THREE, THREE[:, 0] > 0, 0), "a chunk of 0"),
    "stride": (lambda: ops.unpool_nearest(MAP, 0), "stride 0"),
    "window": (lambda: ops.max_pool_with_argmax(MAP, 0), "a window of 0"),
    "beta": (lambda: ops.smooth_l1(THREE, THREE, -1.0), "beta is -1"),
    "enlargement": (lambda: ops.bilinear_kernel(0, 1), "a stride of 0"),
    "factor": (lambda: ops.resize_convolution(MAP, np.zeros((3, 3, 3, 1)), 0), "a factor of 0"),
}


@pytest.mark.parametrize("name", DISAGREEING)
def test_arguments_that_do_not_agree_are_named_while_tracing(name):
    function, told = DISAGREEING[name]
    with pytest.raises(ValueError) as error:
        jax.eval_shape(function)
    assert told in str(error.value)


def test_shapes_that_do_not_broadcast():
    """Past the checks of signatures, which the tests switch on."""
    for name in ("encode_boxes", "decode_boxes", "smooth_l1", "sigmoid_focal_loss"):
        with pytest.raises(ValueError, match=r"\(3, 4\), \(2, 4\)"):
            getattr(ops, name).__wrapped__(THREE, TWO)
    with pytest.raises(ValueError, match=r"shape is \[2, 3\]"):
        ops.box_area.__wrapped__(TWO[:, :3])
