"""RoIAlign and RoIPool equal torchvision's, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.ops.roi import multilevel_roi_align, multilevel_roi_pool, roi_align, roi_pool

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers


def some_boxes(rng, extent):
    """Boxes inside, outside and across the border, and some of zero, negative or enormous size."""
    centers, sides = rng.uniform(-0.3, 1.3, (24, 2)) * extent, rng.uniform(-0.2, 1, (24, 2)) * extent
    sides[::6] = 0
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], 1)
    boxes[1] = [-1000, -900, 1000, 1100]
    boxes[2] = [20000, 0, 20010, 10]
    boxes[3] = np.round(boxes[3])
    boxes[4] = [0, 0, extent, extent]
    boxes[5] = [extent / 4, 0, extent / 4, extent / 2]
    return boxes.astype(np.float32)


def theirs(op, features, gradient):
    """The value and the gradient of a torchvision operator on NHWC numpy maps."""
    maps = [torch.tensor(f.transpose(2, 0, 1)[None].copy(), requires_grad=True) for f in features]
    pooled = op(maps)
    pooled.backward(torch.tensor(gradient.transpose(0, 3, 1, 2).copy()))
    grads = [
        np.zeros_like(f) if m.grad is None else m.grad[0].permute(1, 2, 0).numpy()
        for m, f in zip(maps, features, strict=True)
    ]
    return pooled.detach().permute(0, 2, 3, 1).numpy(), grads


def ours(op, features, gradient):
    @jax.jit
    def value_and_gradient(features, gradient):
        pooled, pull = jax.vjp(op, features)
        return pooled, pull(gradient)[0]

    return value_and_gradient([jnp.asarray(f) for f in features], jnp.asarray(gradient))


def assert_equal(our_op, their_op, features, count, size):
    gradient = np.random.default_rng(9).normal(size=(count, *size, features[0].shape[-1])).astype(np.float32)
    value, gradients = ours(our_op, features, gradient)
    expected_value, expected_gradients = theirs(their_op, features, gradient)
    np.testing.assert_allclose(value, expected_value, atol=1e-4)
    for got, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(("shape", "size"), [((13, 17), (7, 7)), ((1, 1), (2, 3)), ((1, 9), (3, 2))])
def test_roi_align_equals_torchvision(shape, size, ratio, aligned):
    rng = np.random.default_rng(sum(shape) + ratio)
    features = [rng.normal(size=(*shape, 5)).astype(np.float32)]
    boxes = some_boxes(rng, 16 * max(shape))
    if aligned and ratio == 0:
        # torchvision raises std::length_error for adaptive sampling of boxes that run backwards.
        boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    assert_equal(
        lambda f: roi_align(f[0], jnp.asarray(boxes), size, 1 / 16, ratio, aligned),
        lambda f: torchvision.ops.roi_align(f[0], [torch.tensor(boxes)], size, 1 / 16, ratio, aligned),
        features,
        len(boxes),
        size,
    )


def test_adaptive_align_of_boxes_of_whole_cells():
    rng = np.random.default_rng(1)
    features = [rng.normal(size=(40, 40, 2)).astype(np.float32)]
    sides = np.arange(1, 36)
    boxes = np.stack([sides * 0 + 1, sides * 0 + 2, 1 + sides, 2 + sides], 1).astype(np.float32)
    assert_equal(
        lambda f: roi_align(f[0], jnp.asarray(boxes), 7, 1.0, 0),
        lambda f: torchvision.ops.roi_align(f[0], [torch.tensor(boxes)], 7, 1.0, 0),
        features,
        len(boxes),
        (7, 7),
    )


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("shape", "size"), [((13, 17), (7, 7)), ((1, 1), (2, 3)), ((1, 9), (3, 2))])
def test_roi_pool_equals_torchvision(shape, size, relu):
    rng = np.random.default_rng(sum(shape))
    features = [rng.normal(size=(*shape, 5)).astype(np.float32)]
    if relu:
        features = [np.maximum(f, 0) for f in features]
    boxes = some_boxes(rng, 16 * max(shape))
    assert_equal(
        lambda f: roi_pool(f[0], jnp.asarray(boxes), size, 1 / 16),
        lambda f: torchvision.ops.roi_pool(f[0], [torch.tensor(boxes)], size, 1 / 16),
        features,
        len(boxes),
        size,
    )


@pytest.mark.parametrize("bins", [7, 11, 14])
def test_pool_bins_of_every_length(bins):
    # Of some lengths, such as 5 / 7 of a cell times 7, float32 makes a little more than a whole number.
    lengths = np.arange(120)
    rng = np.random.default_rng(bins)
    features = rng.normal(size=(125, 6, 2)).astype(np.float32)
    boxes = np.stack([lengths * 0, lengths * 0 + 2, lengths * 0 + 5, 2 + lengths], 1).astype(np.float32)
    expected = torchvision.ops.roi_pool(
        torch.tensor(features.transpose(2, 0, 1)[None].copy()), [torch.tensor(boxes)], (bins, 1), 1.0
    )
    pooled = jax.jit(lambda f, b: roi_pool(f, b, (bins, 1), 1.0))(features, boxes)
    np.testing.assert_array_equal(pooled, expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("ratio", [0, 2])
def test_multilevel_roi_align_equals_torchvision(ratio):
    rng = np.random.default_rng(ratio)
    shapes, scales = [(64, 80), (32, 40), (16, 20), (8, 10)], [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    features = [rng.normal(size=(*shape, 3)).astype(np.float32) for shape in shapes]
    boxes = some_boxes(rng, 256)
    boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    boxes[6:12] = [[3, 1, 3 + s, 1 + s] for s in (55, 56, 112, 224, 448, 900)]
    poolers = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, ratio)

    def their_op(maps):
        return poolers(dict(zip("0123", maps, strict=True)), [torch.tensor(boxes)], [(256, 320)])

    def our_op(maps):
        return multilevel_roi_align(maps, jnp.asarray(boxes), 7, scales, ratio)

    assert_equal(our_op, their_op, features, len(boxes), (7, 7))


def test_multilevel_pool_reads_the_levels_of_their_mapper():
    rng = np.random.default_rng(3)
    shapes, scales = [(32, 40), (16, 20), (8, 10)], [1 / 8, 1 / 16, 1 / 32]
    features = [rng.normal(size=(*shape, 3)).astype(np.float32) for shape in shapes]
    boxes = some_boxes(rng, 256)
    boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    levels = torchvision.ops.poolers.LevelMapper(3, 5)([torch.tensor(boxes)]).numpy()
    pooled = multilevel_roi_pool([jnp.asarray(f) for f in features], jnp.asarray(boxes), 7, scales)
    assert set(levels) == {0, 1, 2}
    for level in range(3):
        own = torch.tensor(boxes[levels == level])
        maps = torch.tensor(features[level].transpose(2, 0, 1)[None].copy())
        expected = torchvision.ops.roi_pool(maps, [own], 7, scales[level])
        np.testing.assert_array_equal(pooled[levels == level], expected.permute(0, 2, 3, 1).numpy())
