"""The bilinear sampler and the grids: worked numbers, a slow reference, gradients, odd points."""

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

from vision_jax.ops import sampling
from vision_jax.ops.sampling import (
    affine_grid,
    attention_grid,
    projective_grid,
    regular_points,
    rotation_grid,
    target_points,
    thin_plate_spline_grid,
)

sampled = jax.jit(sampling.sample_bilinear, static_argnames=("padding", "align_corners"))
affine_points = jax.jit(affine_grid, static_argnums=(1, 2))
rotated_points = jax.jit(rotation_grid, static_argnums=(1, 2))
modest = settings(max_examples=15, deadline=None)

IMAGE = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
PADDINGS = ("zeros", "border", "reflection")
slow = pytest.mark.slow
every_way = pytest.mark.parametrize(
    ("padding", "align_corners"), [(padding, align) for padding in PADDINGS for align in (False, True)]
)


def sample(*args):
    """Compiled, and NumPy's array: what is asserted of it is no program of its own."""
    return np.asarray(sampled(*args))


def slow_sample(image, points, padding, align_corners, margin=40):
    """Every pixel's hat function at every point, on an image continued by `margin` pixels each way."""
    height, width = image.shape[:2]
    mode = {
        "zeros": "constant",
        "border": "edge",
        "reflection": "reflect" if align_corners else "symmetric",
    }[padding]
    wide = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode=mode)
    size = np.array([width, height])
    pixels = (points + 1) / 2 * (size - 1) if align_corners else ((points + 1) * size - 1) / 2
    pixels = pixels + margin
    columns = np.maximum(0, 1 - abs(pixels[..., :1] - np.arange(wide.shape[1])))
    rows = np.maximum(0, 1 - abs(pixels[..., 1:] - np.arange(wide.shape[0])))
    return np.einsum("...y,...x,yxc->...c", rows, columns, wide)


def test_values_worked_by_hand():
    image = np.array([[0, 1], [2, 3]], np.float32)[..., None]
    # The middle; four edges; two points right of the image.
    points = [[0, 0], [-1, -1], [1, 1], [1, -1], [-1, 0], [2.5, -0.5], [4.5, -0.5]]
    points = np.array(points, np.float32)

    def read(padding, align):
        return sample(image, points, padding, align)[:, 0].tolist()

    assert read("zeros", False)[0] == read("zeros", True)[0] == 1.5
    # An edge of the image is half a pixel from the nearest centers, and so is the first zero outside.
    assert read("zeros", False)[1:5] == [0, 0.75, 0.25, 0.5]
    assert read("border", False)[1:5] == [0, 3, 1, 1]
    assert read("zeros", True)[1:5] == [0, 3, 1, 1]
    # Two widths to the right: the mirror's mirror.
    assert read("reflection", False)[5:] == [0, 1]


@modest
@given(points=hnp.arrays(np.float32, (6, 2), elements=st.floats(-6, 6, width=32)))
@every_way
def test_sampled_values_equal_the_definition(points, padding, align_corners):
    expected = slow_sample(IMAGE, points.astype(float), padding, align_corners)
    np.testing.assert_allclose(sample(IMAGE, points, padding, align_corners), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("padding", "align_corners"),
    [
        ("zeros", False),
        ("reflection", True),
        pytest.param("zeros", True, marks=slow),
        pytest.param("border", False, marks=slow),
        pytest.param("border", True, marks=slow),
        pytest.param("reflection", False, marks=slow),
    ],
)
def test_gradients_equal_finite_differences(padding, align_corners):
    points = np.random.default_rng(1).uniform(-1.7, 1.7, (6, 5, 2))
    with jax.enable_x64(True):
        image, points = jnp.asarray(IMAGE, float), jnp.asarray(points)
        both = jax.jit(lambda i, p: sampling.sample_bilinear(i, p, padding, align_corners))
        check_grads(both, (image, points), order=1, modes=("rev",), eps=1e-6, atol=1e-6, rtol=1e-6)


@jax.jit
def gradients_of_points(image, points):
    return jax.grad(lambda p: sampling.sample_bilinear(image, p).sum())(points)


@pytest.mark.parametrize("channels", [18, 33, pytest.param(48, marks=slow), pytest.param(300, marks=slow)])
def test_gradients_of_many_channels_equal_those_of_few(channels):
    rng = np.random.default_rng(2)
    image = rng.normal(size=(6, 5, channels)).astype(np.float32)
    points = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
    parts = [np.asarray(gradients_of_points(image[..., i : i + 3], points)) for i in range(0, channels, 3)]
    np.testing.assert_allclose(gradients_of_points(image, points), sum(parts), rtol=1e-5, atol=1e-4)


@partial(jax.jit, static_argnums=(2, 3))
def values_and_gradients(image, points, padding, align_corners):
    def total(image, points):
        values = sampling.sample_bilinear(image, points, padding, align_corners)
        return values.sum(), values

    gradients, values = jax.grad(total, (0, 1), has_aux=True)(image, points)
    return values, *gradients


@pytest.mark.parametrize(
    ("padding", "align_corners", "shape"),
    [
        ("zeros", False, (3, 2)),
        ("border", False, (3, 2)),
        ("reflection", True, (1, 1)),
    ]
    + [
        pytest.param(padding, align, shape, marks=slow)
        for padding, align, shapes in (
            ("zeros", False, [(1, 1), (1, 3)]),
            ("zeros", True, [(1, 1), (1, 3), (3, 2)]),
            ("border", False, [(1, 1), (1, 3)]),
            ("border", True, [(1, 1), (1, 3), (3, 2)]),
            ("reflection", False, [(1, 1), (1, 3), (3, 2)]),
            ("reflection", True, [(1, 3), (3, 2)]),
        )
        for shape in shapes
    ],
)
@modest
@given(points=hnp.arrays(np.float32, (5, 2), elements=st.floats(width=32)))
def test_any_point_reads_inside_or_zero(points, shape, padding, align_corners):
    """NaN, infinite and enormous points, and images of one pixel."""
    image = np.ones((*shape, 1), np.float32)
    values, of_image, of_points = map(np.asarray, values_and_gradients(image, points, padding, align_corners))
    finite = np.isfinite(points).all(1)
    assert np.all(values[~finite] == 0)
    assert np.all((values >= 0) & (values <= 1 + 1e-6))
    if padding != "zeros":
        np.testing.assert_allclose(values[finite], 1, atol=1e-6)
    assert np.isfinite(of_image).all()
    assert np.isfinite(of_points).all()
    assert np.all(of_points[~finite] == 0)
    # What was read came from somewhere in the image: nothing is lost, nothing is read beside it.
    np.testing.assert_allclose(of_image.sum(), values.sum(), atol=1e-5)


def test_far_points_read_what_the_padding_says():
    far = np.array([[1e30, 0], [-1e30, 1e30], [3e38, -3e38]], np.float32)
    assert np.all(sample(IMAGE, far, "zeros", False) == 0)
    border = sample(IMAGE, far, "border", False)
    np.testing.assert_allclose(border, np.stack([IMAGE[2, -1], IMAGE[-1, 0], IMAGE[0, -1]]), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "align"),
    [
        ((1, 1), True),
        ((4, 7), False),
        pytest.param((1, 1), False, marks=slow),
        pytest.param((5, 2), False, marks=slow),
        pytest.param((5, 2), True, marks=slow),
        pytest.param((4, 7), True, marks=slow),
    ],
)
def test_the_identity_returns_the_image(shape, align):
    image = np.random.default_rng(3).normal(size=(*shape, 2)).astype(np.float32)

    @jax.jit
    def read(theta):
        points = affine_grid(theta, shape, align)
        return points, [sampling.sample_bilinear(image, points, padding, align) for padding in PADDINGS]

    points, read_by_padding = read(np.eye(2, 3, dtype=np.float32))
    np.testing.assert_allclose(points, target_points(shape, align), atol=1e-6)
    for values in read_by_padding:
        np.testing.assert_allclose(values, image, atol=1e-5)


def test_quarter_turns_and_whole_pixels_are_exact():
    image = np.arange(16.0, dtype=np.float32).reshape(4, 4, 1)
    # The output's right, (1, 0), reads what is below, (0, 1).
    turn = np.array([[0, -1, 0], [1, 0, 0]], np.float32)
    for align in (False, True):
        turned = sample(image, affine_points(turn, (4, 4), align), "zeros", align)
        np.testing.assert_allclose(turned, np.rot90(image), atol=1e-5)
    shift = np.array([[1, 0, 0.5], [0, 1, 0]], np.float32)  # a quarter of the width: one pixel
    shifted = sample(image, affine_points(shift, (4, 4), False), "zeros", False)
    np.testing.assert_allclose(shifted, np.pad(image, ((0, 0), (0, 1), (0, 0)))[:, 1:], atol=1e-5)


def test_a_turn_keeps_the_shape_of_what_is_not_square():
    image = np.random.default_rng(6).normal(size=(3, 5, 1)).astype(np.float32)
    for align in (False, True):
        turned = sample(image, rotated_points(np.float32(np.pi / 2), (3, 5), align), "zeros", align)
        # Its points turn clockwise: the pixel right of the middle reads the one below the middle.
        np.testing.assert_allclose(turned[:, 1:4], np.rot90(image[:, 1:4]), atol=1e-5)
        np.testing.assert_allclose(turned[:, [0, 4]], 0, atol=1e-5)
        half = sample(image, rotated_points(np.float32(np.pi), (3, 5), align), "zeros", align)
        np.testing.assert_allclose(half, image[::-1, ::-1], atol=1e-5)
    assert rotated_points(np.float32(0.5), (1, 1), True).tolist() == [[[0, 0]]]


def test_a_crop_of_another_size():
    image = np.arange(64.0, dtype=np.float32).reshape(8, 8, 1)
    read = jax.jit(lambda theta: sampling.sample_bilinear(image, attention_grid(theta, (4, 4))))
    np.testing.assert_allclose(read(np.float32([0.5, 0.25, -0.5])), image[0:4, 3:7], atol=1e-4)
    halved = image.reshape(4, 2, 4, 2, 1).mean((1, 3))
    np.testing.assert_allclose(read(np.float32([1, 0, 0])), halved, atol=1e-4)


@pytest.mark.parametrize(("size", "align"), [((5, 3), False), pytest.param((4, 6), True, marks=slow)])
def test_families_agree_where_they_are_the_same_map(size, align):
    theta = np.array([[0.8, -0.3, 0.1], [0.2, 1.1, -0.4]], np.float32)
    plane = 2.5 * np.concatenate([theta, np.float32([[0, 0, 1]])])
    isotropic = np.array([[0.5, 0, 0.1], [0, 0.5, -0.2]], np.float32)
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0]], np.float32)
    control = np.random.default_rng(4).uniform(-1, 1, (9, 2))
    mapped = (control @ theta[:, :2].T + theta[:, 2]).astype(np.float32)

    @jax.jit
    def found_and_affine(theta, plane, isotropic, turn, mapped):
        points = affine_grid(theta, size, align)
        attention = attention_grid(jnp.stack([isotropic[0, 0], *isotropic[:, 2]]), size, align)
        return {
            "projective": (projective_grid(plane, size, align), points, 1e-6),
            "attention": (attention, affine_grid(isotropic, size, align), 1e-6),
            "rotation": (
                rotation_grid(jnp.float32(0.3), (4, 4), align),
                affine_grid(turn, (4, 4), align),
                1e-6,
            ),
            "thin plate spline": (thin_plate_spline_grid(mapped, control, size, align), points, 1e-5),
        }

    for name, (found, expected, atol) in found_and_affine(theta, plane, isotropic, turn, mapped).items():
        np.testing.assert_allclose(found, expected, atol=atol, err_msg=name)


def test_a_spline_interpolates_its_control_points():
    rng = np.random.default_rng(5)
    control = target_points((6, 5)).reshape(-1, 2)[rng.permutation(30)[:11]]
    theta = (control + rng.normal(size=control.shape)).astype(np.float32)
    points = np.asarray(jax.jit(lambda theta: thin_plate_spline_grid(theta, control, (6, 5)))(theta))
    points = points.reshape(-1, 2)
    at = [int(np.flatnonzero((target_points((6, 5)).reshape(-1, 2) == c).all(1))[0]) for c in control]
    np.testing.assert_allclose(points[at], theta, atol=1e-5)
    regular = regular_points(4)
    assert regular[[0, 3, 12, 15]].tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    theta = rng.normal(size=(16, 2)).astype(np.float32)
    points = jax.jit(lambda theta: thin_plate_spline_grid(theta, regular, (4, 4), align_corners=True))(theta)
    np.testing.assert_allclose(np.asarray(points).reshape(-1, 2), theta, atol=1e-5)


def test_a_spline_bends_by_its_kernel():
    """Between control points, against the equations of Bookstein 1989 solved here for one displacement."""
    control = np.array([[-1.0, -1], [1, -1], [-1, 1], [1, 1], [0, 0]])
    theta = control.copy()
    theta[4, 0] = 0.5
    u = lambda r2: r2 * np.log(r2)  # noqa: E731
    # By symmetry each corner bends by w and the middle by -4 w, and the affine part moves all x by a.
    # At the middle: 4 w u(2) + a = 0.5; at a corner: w (2 u(4) + u(8)) - 4 w u(2) + a = 0.
    w, a = np.linalg.solve([[4 * u(2), 1], [2 * u(4) + u(8) - 4 * u(2), 1]], [0.5, 0])
    x, y = 0.5, 0.0
    distances = [(x - cx) ** 2 + (y - cy) ** 2 for cx, cy in control]
    bent = x + a + w * (sum(map(u, distances[:4])) - 4 * u(distances[4]))
    # The second of two pixels is at (0.5, 0).
    points = jax.jit(lambda theta: thin_plate_spline_grid(theta, control, (1, 2)))(np.float32(theta))
    np.testing.assert_allclose(points[0, 1], [bent, 0], atol=1e-5)


@pytest.mark.parametrize(
    "control", [[[0, 0], [1, 1]], [[0, 0], [0.5, 0.5], [1, 1]], [[0, 0], [1, 0], [0, 1], [0, 1]]]
)
def test_a_spline_needs_control_points_in_the_plane(control):
    with pytest.raises(ValueError, match="coincide or lie on one line"):
        thin_plate_spline_grid(np.zeros((len(control), 2)), np.array(control, float), (4, 4))


def test_points_at_infinity_are_outside_and_have_finite_gradients():
    # Depth is x: 0 in the middle column.
    theta = np.array([[1, 0, 0.3], [0, 1, 0.2], [1, 0, 0]], np.float32)

    @jax.jit
    @partial(jax.grad, has_aux=True)
    def read(theta):
        points = projective_grid(theta, (3, 3))
        values = sampling.sample_bilinear(IMAGE, points)
        return values.sum(), (points, values)

    gradient, (points, values) = jax.tree.map(np.asarray, read(theta))
    assert np.isfinite(points).all()
    assert np.all(abs(points[:, 1]) > 1e4)
    assert np.all(values[:, 1] == 0)
    assert np.isfinite(gradient).all()
    assert np.all(np.asarray(affine_points(np.zeros((2, 3), np.float32), (2, 2), False)) == 0)
    broken = affine_points(np.full((2, 3), np.nan, np.float32), (2, 2), False)
    assert np.all(sample(IMAGE, broken) == 0)


def test_points_outside_have_no_gradient_even_beside_a_pixel_at_infinity():
    image = np.ones((3, 2, 1), np.float32)
    image[0, 0] = np.inf
    outside = np.array([[-5, -5], [np.nan, 0], [np.inf, -3], [-4, -5], [0, -np.inf]], np.float32)
    for padding in PADDINGS[:2]:
        assert values_and_gradients(image, outside, padding, False)[2].tolist() == [[0, 0]] * 5


def test_batches_are_what_their_images_are():
    rng = np.random.default_rng(6)
    images = rng.normal(size=(3, 5, 4, 2)).astype(np.float32)
    points = rng.uniform(-1.5, 1.5, (3, 6, 2)).astype(np.float32)

    def both(image, points):
        values, pull = jax.vjp(sampling.sample_bilinear, image, points)
        return values, pull(jnp.cos(values))

    batch = jax.jit(jax.vmap(both))(images, points)
    one = jax.jit(both)
    each = [one(images[i], points[i]) for i in range(3)]
    chex.assert_trees_all_close(batch, jax.tree.map(lambda *all: np.stack(all), *each), atol=1e-5)


def test_half_precision_images_keep_exact_positions():
    image = (np.arange(300.0)[None, :, None] % 2).astype(jnp.bfloat16)
    values = sample(image, target_points((1, 300)))
    assert values.dtype == jnp.bfloat16
    np.testing.assert_allclose(values.astype(np.float32), image.astype(np.float32), atol=1e-3)
