"""Products with small matrices at 32,769 to 65,535 points, each followed by a sum over the small axis.

jaxlib 0.10.2 computes `jit(lambda m, x: jnp.sum(m @ x.T, 0))` wrongly on CPUs for m 3x3 and 32,769 to about
50,000 points: 7,231 entries of 40,001. Nothing of ours may compile to that form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.conv import Conv
from vision_jax.ops import (
    affine_grid,
    attention_grid,
    box_iou,
    decode_boxes,
    encode_boxes,
    projective_grid,
    rotation_grid,
    thin_plate_spline_grid,
)

# 40,001 points; 32,769 and 65,535 in the slow tier.
SIZES = [(221, 181), *(pytest.param(size, marks=pytest.mark.slow) for size in ((3, 10923), (255, 257)))]
COUNTS = [40001, *(pytest.param(count, marks=pytest.mark.slow) for count in (32769, 65535))]
RNG = np.random.default_rng(0)
AFFINE = RNG.normal(size=(2, 3)).astype(np.float32)
PROJECTIVE = np.array([[1.1, 0.2, -0.1], [0.1, 0.9, 0.3], [0.1, -0.2, 1.5]], np.float32)
CORNERS = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1], [0, 0.2]], np.float32)


def plane(size):
    """(x, y, 1) of each pixel: float64 [h, w, 3]."""
    y, x = ((2 * np.arange(length) + 1) / length - 1 for length in size)
    return np.stack(np.broadcast_arrays(x, y[:, None], 1.0), axis=-1)


GRIDS = {
    "affine": (affine_grid, AFFINE, lambda size: plane(size) @ AFFINE.T.astype(float)),
    "attention": (
        attention_grid,
        np.array([0.5, 0.1, -0.3], np.float32),
        lambda size: 0.5 * plane(size)[..., :2] + [0.1, -0.3],
    ),
    "projective": (
        projective_grid,
        PROJECTIVE,
        lambda size: (q := plane(size) @ PROJECTIVE.T.astype(float))[..., :2] / q[..., 2:],
    ),
    "rotation": (
        rotation_grid,
        np.float32(0.4),
        lambda size: np.stack(
            [
                np.cos(0.4) * plane(size)[..., 0] - np.sin(0.4) * size[0] / size[1] * plane(size)[..., 1],
                np.sin(0.4) * size[1] / size[0] * plane(size)[..., 0] + np.cos(0.4) * plane(size)[..., 1],
            ],
            axis=-1,
        ),
    ),
    # A spline whose control points go where an affine map takes them is that map.
    "thin plate spline": (
        lambda theta, size: thin_plate_spline_grid(theta, CORNERS, size),
        (CORNERS @ AFFINE[:, :2].T + AFFINE[:, 2]).astype(np.float32),
        lambda size: plane(size) @ AFFINE.T.astype(float),
    ),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", GRIDS)
def test_grids_and_their_sums(name, size):
    grid, theta, expected = GRIDS[name]
    points, last, turned = jax.jit(
        lambda theta: (
            grid(theta, size),
            grid(theta, size).sum(-1),
            jnp.moveaxis(grid(theta, size), -1, 0).sum(0),
        )
    )(theta)
    wanted = expected(size)
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(points, wanted, atol=2e-5 * scale)
    np.testing.assert_allclose(last, wanted.sum(-1), atol=4e-5 * scale)
    np.testing.assert_allclose(turned, wanted.sum(-1), atol=4e-5 * scale)


@pytest.mark.parametrize("count", COUNTS)
def test_box_transforms_and_their_sums(count):
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 50, (count, 2))], 1).astype(np.float32)
    moved = (boxes + rng.uniform(-2, 2, (count, 4))).astype(np.float32)
    deltas, back, sums = jax.jit(
        lambda moved, boxes: (
            encode_boxes(moved, boxes),
            decode_boxes(encode_boxes(moved, boxes), boxes),
            decode_boxes(encode_boxes(moved, boxes), boxes).sum(-1),
        )
    )(moved, boxes)
    sides, other = boxes[:, 2:] - boxes[:, :2], moved[:, 2:] - moved[:, :2]
    shifts = (moved[:, :2] + other / 2 - boxes[:, :2] - sides / 2) / sides
    np.testing.assert_allclose(deltas, np.concatenate([shifts, np.log(other / sides)], 1), atol=1e-4)
    np.testing.assert_allclose(back, moved, atol=1e-3)
    np.testing.assert_allclose(sums, moved.sum(1), atol=4e-3)
    low, high = np.maximum(moved[:3, None, :2], boxes[:, :2]), np.minimum(moved[:3, None, 2:], boxes[:, 2:])
    common = np.maximum(high - low, 0).prod(-1).astype(np.float64)
    wanted = common / (other[:3].prod(-1)[:, None] + sides.prod(-1) - common)
    iou, summed = jax.jit(lambda a, b: (box_iou(a, b), box_iou(a, b).sum(0)))(moved[:3], boxes)
    np.testing.assert_allclose(iou, wanted, atol=1e-5)
    np.testing.assert_allclose(summed, wanted.sum(0), atol=3e-5)


@pytest.mark.parametrize("size", SIZES)
def test_convolutions_of_three_channels_by_1x1_kernels(size):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, *size, 3)).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    layer = Conv(3, 1, bias=False)
    variables = {"params": {"kernel": jnp.asarray(kernel[None, None])}}
    y, sums = jax.jit(lambda x: (layer.apply(variables, x), layer.apply(variables, x).sum(-1)))(x)
    wanted = x.astype(np.float64) @ kernel
    np.testing.assert_allclose(y, wanted, atol=1e-4)
    np.testing.assert_allclose(sums, wanted.sum(-1), atol=1e-4)
