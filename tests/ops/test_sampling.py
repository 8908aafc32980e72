"""The bilinear sampler and the grids: worked numbers, a slow reference, gradients, points in odd places."""

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

from vision_jax.ops import sampling, window_kernels
from vision_jax.ops.sampling import (
    affine_grid,
    attention_grid,
    projective_grid,
    regular_points,
    rotation_grid,
    target_points,
    thin_plate_spline_grid,
)

sample = jax.jit(sampling.sample_bilinear, static_argnames=("padding", "align_corners"))
modest = settings(max_examples=15, deadline=None)

IMAGE = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
PADDINGS = ("zeros", "border", "reflection")
every_way = pytest.mark.parametrize(
    ("padding", "align_corners"), [(padding, align) for padding in PADDINGS for align in (False, True)]
)


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
    places = (points + 1) / 2 * (size - 1) if align_corners else ((points + 1) * size - 1) / 2
    places = places + margin
    columns = np.maximum(0, 1 - abs(places[..., :1] - np.arange(wide.shape[1])))
    rows = np.maximum(0, 1 - abs(places[..., 1:] - np.arange(wide.shape[0])))
    return np.einsum("...y,...x,yxc->...c", rows, columns, wide)


def test_values_worked_by_hand():
    image = jnp.array([[0.0, 1], [2, 3]])[..., None]
    middle = jnp.zeros((1, 2))
    for align in (False, True):
        assert sample(image, middle, "zeros", align).tolist() == [[1.5]]
    # An edge of the image is half a pixel from the nearest centres, and so is the first zero outside.
    edges = jnp.array([[-1.0, -1], [1, 1], [1, -1], [-1, 0]])
    assert sample(image, edges, "zeros", False)[:, 0].tolist() == [0, 0.75, 0.25, 0.5]
    assert sample(image, edges, "border", False)[:, 0].tolist() == [0, 3, 1, 1]
    assert sample(image, edges, "zeros", True)[:, 0].tolist() == [0, 3, 1, 1]
    # Two widths to the right: the mirror's mirror.
    assert sample(image, jnp.array([[2.5, -0.5]]), "reflection", False).tolist() == [[0]]
    assert sample(image, jnp.array([[4.5, -0.5]]), "reflection", False).tolist() == [[1]]


@modest
@given(points=hnp.arrays(np.float32, (6, 2), elements=st.floats(-6, 6, width=32)))
@every_way
def test_sampled_values_equal_the_definition(points, padding, align_corners):
    expected = slow_sample(IMAGE, points.astype(float), padding, align_corners)
    np.testing.assert_allclose(sample(IMAGE, points, padding, align_corners), expected, atol=2e-5)


@every_way
def test_gradients_equal_finite_differences(padding, align_corners):
    points = np.random.default_rng(1).uniform(-1.7, 1.7, (6, 5, 2))
    with jax.enable_x64(True):
        image, points = jnp.asarray(IMAGE, float), jnp.asarray(points)
        both = jax.jit(lambda i, p: sampling.sample_bilinear(i, p, padding, align_corners))
        check_grads(both, (image, points), order=1, modes=("rev",), eps=1e-6, atol=1e-6, rtol=1e-6)


def test_the_form_for_other_devices_equals_the_loop():
    rng = np.random.default_rng(7)
    atlas = jnp.asarray(rng.normal(size=(6, 5, 3)), jnp.float32)
    rows, columns = (jnp.asarray(rng.integers(0, 4, 9), jnp.int32) for _ in range(2))
    down, across = (jnp.asarray(rng.uniform(-1, 2, 9), jnp.float32) for _ in range(2))
    gradient = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
    in_turn, at_once = (
        jax.jit(form)(atlas[..., :0], rows, columns, down, across, gradient)
        for form in (window_kernels._spread_samples_in_turn, window_kernels._spread_samples_at_once)
    )
    chex.assert_trees_all_close(in_turn, at_once, atol=1e-5)


@pytest.mark.parametrize("channels", [18, 33, 48, 300])
def test_gradients_of_many_channels_equal_those_of_few(channels):
    rng = np.random.default_rng(2)
    image = jnp.asarray(rng.normal(size=(6, 5, channels)), jnp.float32)
    points = jnp.asarray(rng.uniform(-1, 1, (4, 2)), jnp.float32)

    @jax.jit
    def slope(image):
        return jax.grad(lambda p: sampling.sample_bilinear(image, p).sum())(points)

    parts = sum(slope(image[..., i : i + 3]) for i in range(0, channels, 3))
    np.testing.assert_allclose(slope(image), parts, rtol=1e-5, atol=1e-4)


@partial(jax.jit, static_argnums=(2, 3))
def gradients(image, points, padding, align_corners):
    return jax.grad(lambda i, p: sampling.sample_bilinear(i, p, padding, align_corners).sum(), (0, 1))(
        image, points
    )


@modest
@given(
    points=hnp.arrays(np.float32, (5, 2), elements=st.floats(width=32)),
    shape=st.sampled_from([(1, 1), (1, 3), (3, 2)]),
)
@every_way
def test_any_point_reads_inside_or_zero(points, shape, padding, align_corners):
    """NaN, infinite and enormous points, and images of one pixel."""
    image = np.ones((*shape, 1), np.float32)
    values = sample(image, points, padding, align_corners)
    of_image, of_points = gradients(image, points, padding, align_corners)
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
    far = jnp.array([[1e30, 0], [-1e30, 1e30], [3e38, -3e38]])
    assert np.all(sample(IMAGE, far, "zeros", False) == 0)
    border = sample(IMAGE, far, "border", False)
    np.testing.assert_allclose(border, np.stack([IMAGE[2, -1], IMAGE[-1, 0], IMAGE[0, -1]]), atol=1e-6)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (4, 7)])
def test_the_identity_returns_the_image(shape, align):
    image = np.random.default_rng(3).normal(size=(*shape, 2)).astype(np.float32)
    points = affine_grid(jnp.eye(2, 3), shape, align)
    np.testing.assert_allclose(points, target_points(shape, align), atol=1e-6)
    for padding in PADDINGS:
        np.testing.assert_allclose(sample(image, points, padding, align), image, atol=1e-5)


def test_quarter_turns_and_whole_pixels_are_exact():
    image = np.arange(16.0, dtype=np.float32).reshape(4, 4, 1)
    turn = jnp.array([[0.0, -1, 0], [1, 0, 0]])  # the output's right, (1, 0), reads what is below, (0, 1)
    for align in (False, True):
        turned = sample(image, affine_grid(turn, (4, 4), align), "zeros", align)
        np.testing.assert_allclose(turned, np.rot90(image), atol=1e-5)
    shift = jnp.array([[1.0, 0, 0.5], [0, 1, 0]])  # a quarter of the width: one pixel
    shifted = sample(image, affine_grid(shift, (4, 4)))
    np.testing.assert_allclose(shifted, np.pad(image, ((0, 0), (0, 1), (0, 0)))[:, 1:], atol=1e-5)


def test_a_turn_keeps_the_shape_of_what_is_not_square():
    image = np.random.default_rng(6).normal(size=(3, 5, 1)).astype(np.float32)
    for align in (False, True):
        turned = sample(image, rotation_grid(jnp.float32(np.pi / 2), (3, 5), align), "zeros", align)
        # Its points turn clockwise: the pixel right of the middle reads the one below the middle.
        np.testing.assert_allclose(turned[:, 1:4], np.rot90(image[:, 1:4]), atol=1e-5)
        np.testing.assert_allclose(turned[:, [0, 4]], 0, atol=1e-5)
        half = sample(image, rotation_grid(jnp.float32(np.pi), (3, 5), align), "zeros", align)
        np.testing.assert_allclose(half, image[::-1, ::-1], atol=1e-5)
    assert rotation_grid(jnp.float32(0.5), (1, 1), True).tolist() == [[[0, 0]]]


def test_a_crop_of_another_size():
    image = np.arange(64.0, dtype=np.float32).reshape(8, 8, 1)
    crop = sample(image, attention_grid(jnp.array([0.5, 0.25, -0.5]), (4, 4)))
    np.testing.assert_allclose(crop, image[0:4, 3:7], atol=1e-4)
    halved = sample(image, attention_grid(jnp.array([1.0, 0, 0]), (4, 4)))
    np.testing.assert_allclose(halved, image.reshape(4, 2, 4, 2, 1).mean((1, 3)), atol=1e-4)


def test_families_agree_where_they_are_the_same_map():
    theta = jnp.array([[0.8, -0.3, 0.1], [0.2, 1.1, -0.4]])
    for size, align in (((5, 3), False), ((4, 6), True)):
        points = affine_grid(theta, size, align)
        plane = 2.5 * jnp.concatenate([theta, jnp.array([[0.0, 0, 1]])])
        np.testing.assert_allclose(projective_grid(plane, size, align), points, atol=1e-6)
        isotropic = jnp.array([[0.5, 0, 0.1], [0, 0.5, -0.2]])
        np.testing.assert_allclose(
            attention_grid(jnp.array([0.5, 0.1, -0.2]), size, align),
            affine_grid(isotropic, size, align),
            atol=1e-6,
        )
        square = jnp.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0]], jnp.float32)
        np.testing.assert_allclose(
            rotation_grid(jnp.float32(0.3), (4, 4), align), affine_grid(square, (4, 4), align), atol=1e-6
        )
        control = np.random.default_rng(4).uniform(-1, 1, (9, 2))
        mapped = jnp.asarray(control @ theta[:, :2].T + theta[:, 2], jnp.float32)
        np.testing.assert_allclose(thin_plate_spline_grid(mapped, control, size, align), points, atol=1e-5)


def test_a_spline_interpolates_its_control_points():
    rng = np.random.default_rng(5)
    control = target_points((6, 5)).reshape(-1, 2)[rng.permutation(30)[:11]]
    theta = jnp.asarray(control + rng.normal(size=control.shape), jnp.float32)
    points = thin_plate_spline_grid(theta, control, (6, 5)).reshape(-1, 2)
    at = [int(np.flatnonzero((target_points((6, 5)).reshape(-1, 2) == c).all(1))[0]) for c in control]
    np.testing.assert_allclose(points[jnp.array(at)], theta, atol=1e-5)
    regular = regular_points(4)
    assert regular[[0, 3, 12, 15]].tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    theta = jnp.asarray(rng.normal(size=(16, 2)), jnp.float32)
    np.testing.assert_allclose(
        thin_plate_spline_grid(theta, regular, (4, 4), align_corners=True).reshape(-1, 2), theta, atol=1e-5
    )


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
    points = thin_plate_spline_grid(jnp.asarray(theta, jnp.float32), control, (1, 2))
    np.testing.assert_allclose(points[0, 1], [bent, 0], atol=1e-5)


@pytest.mark.parametrize(
    "control", [[[0, 0], [1, 1]], [[0, 0], [0.5, 0.5], [1, 1]], [[0, 0], [1, 0], [0, 1], [0, 1]]]
)
def test_a_spline_needs_control_points_in_the_plane(control):
    with pytest.raises(ValueError, match="coincide or lie on one line"):
        thin_plate_spline_grid(jnp.zeros((len(control), 2)), np.array(control, float), (4, 4))


def test_points_at_infinity_are_outside_and_have_finite_gradients():
    theta = jnp.array([[1.0, 0, 0.3], [0, 1, 0.2], [1, 0, 0]])  # depth is x: 0 in the middle column

    @jax.jit
    def read(theta):
        points = projective_grid(theta, (3, 3))
        return sampling.sample_bilinear(jnp.asarray(IMAGE), points).sum(), points

    (_, points), gradient = jax.value_and_grad(read, has_aux=True)(theta)
    assert np.isfinite(points).all()
    assert np.all(abs(points[:, 1]) > 1e4)
    assert np.all(sample(IMAGE, points)[:, 1] == 0)
    assert np.isfinite(gradient).all()
    singular = affine_grid(jnp.zeros((2, 3)), (2, 2))
    assert np.all(singular == 0)
    broken = sample(IMAGE, affine_grid(jnp.full((2, 3), jnp.nan), (2, 2)))
    assert np.all(broken == 0)


def test_points_outside_have_no_gradient_even_beside_a_pixel_at_infinity():
    image = jnp.ones((3, 3, 2)).at[0, 0].set(jnp.inf)
    outside = jnp.array([[-5.0, -5], [jnp.nan, 0], [jnp.inf, -3]])
    for padding in PADDINGS[:2]:
        assert gradients(image, outside, padding, False)[1].tolist() == [[0, 0]] * 3


def test_batches_are_what_their_images_are():
    rng = np.random.default_rng(6)
    images = jnp.asarray(rng.normal(size=(3, 5, 4, 2)), jnp.float32)
    points = jnp.asarray(rng.uniform(-1.5, 1.5, (3, 6, 2)), jnp.float32)

    def both(image, points):
        values, pull = jax.vjp(sampling.sample_bilinear, image, points)
        return values, pull(jnp.cos(values))

    batch = jax.jit(jax.vmap(both))(images, points)
    one = jax.jit(both)
    each = [one(images[i], points[i]) for i in range(3)]
    chex.assert_trees_all_close(batch, jax.tree.map(lambda *all: jnp.stack(all), *each), atol=1e-5)


def test_half_precision_images_keep_exact_places():
    image = jnp.asarray(np.arange(300.0)[None, :, None] % 2, jnp.bfloat16)
    points = target_points((1, 300))
    values = sample(image, jnp.asarray(points))
    assert values.dtype == jnp.bfloat16
    np.testing.assert_allclose(values.astype(jnp.float32), image.astype(jnp.float32), atol=1e-3)
