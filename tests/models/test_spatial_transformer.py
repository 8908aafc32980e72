"""The layer: begins at the identity, warps as its pose says, keeps its bounds, learns a pose unaided."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.models.attention.spatial_transformer import (
    Affine,
    Attention,
    Projective,
    Rotation,
    SpatialTransformer,
    ThinPlateSpline,
)

FAMILIES = [Attention(), Rotation(), Affine(), Projective(), ThinPlateSpline(3)]


class Flat(nn.Module):
    """A localisation network: one hidden layer over all pixels."""

    @nn.compact
    def __call__(self, maps, train):
        return nn.relu(nn.Dense(16)(maps.reshape(len(maps), -1)))


def make_maps(size: int = 6, count: int = 2, channels: int = 3) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (count, size, size, channels))


def posed(layer: SpatialTransformer, maps: jax.Array, offset: np.ndarray):
    """The layer's outputs where the last layer's bias says by how much the pose differs from the identity."""
    variables = layer.init(jax.random.key(0), maps)
    bias = variables["params"]["pose"]["bias"]
    variables["params"]["pose"]["bias"] = jnp.asarray(offset, bias.dtype).reshape(bias.shape)
    return layer.apply(variables, maps)


@pytest.mark.parametrize("transform", FAMILIES, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("align_corners", [False, True])
def test_it_begins_at_the_identity(transform, align_corners):
    layer = SpatialTransformer(Flat(), transform, align_corners=align_corners)
    maps = make_maps()
    warped, theta = layer.apply(layer.init(jax.random.key(0), maps), maps)  # type: ignore[misc]
    np.testing.assert_array_equal(theta[:, 0], np.tile(transform.identity(), (2, 1)))
    np.testing.assert_allclose(warped[:, 0], maps, atol=1e-5)


def test_a_crop_of_another_size_by_hand():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    layer = SpatialTransformer(Flat(), Attention(), output_size=(2, 2))
    # Half the size, moved by a pixel to the right and one up: the pixels of rows 0 and 1, columns 2 and 3.
    warped, theta = posed(layer, image, np.array([-0.5, 0.5, -0.5]))
    np.testing.assert_allclose(theta, [[[0.5, 0.5, -0.5]]])
    np.testing.assert_allclose(warped[0, 0, ..., 0], [[2, 3], [6, 7]], atol=1e-6)


def test_each_of_several_transforms_has_its_own_pose():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    layer = SpatialTransformer(Flat(), Attention(), output_size=(2, 2), count=2)
    warped, theta = posed(layer, image, np.array([[-0.5, -0.5, -0.5], [-0.5, 0.5, 0.5]]))
    assert theta.shape == (1, 2, 3)
    np.testing.assert_allclose(warped[0, 0, ..., 0], [[0, 1], [4, 5]], atol=1e-6)
    np.testing.assert_allclose(warped[0, 1, ..., 0], [[10, 11], [14, 15]], atol=1e-6)


def test_a_chain_moves_twice():
    shift = np.array([0, 0, 2 / 6, 0, 0, 0])  # by a pixel of 6: each output pixel reads its right neighbour

    class Chain(nn.Module):
        @nn.compact
        def __call__(self, maps):
            once, _ = SpatialTransformer(Flat(), name="first")(maps)
            return SpatialTransformer(Flat(), name="second")(once[:, 0])[0][:, 0]

    maps = make_maps()
    variables = Chain().init(jax.random.key(0), maps)
    for name in ("first", "second"):
        variables["params"][name]["pose"]["bias"] = jnp.asarray(shift, jnp.float32)
    twice = Chain().apply(variables, maps)
    np.testing.assert_allclose(twice[:, :, :4], maps[:, :, 2:], atol=1e-5)
    np.testing.assert_allclose(twice[:, :, 4:], 0, atol=1e-5)


@pytest.mark.parametrize("far", [0.01, 3.0, 1e6])
def test_a_bound_holds_and_leaves_small_offsets_alone(far):
    layer = SpatialTransformer(Flat(), Attention(), bound=0.5)
    _, theta = posed(layer, make_maps(), np.array([far, -far, 0]))
    offset = np.asarray(theta)[0, 0] - [1, 0, 0]
    np.testing.assert_allclose(offset, 0.5 * np.tanh(np.array([far, -far, 0]) / 0.5), atol=1e-6)
    assert np.abs(offset).max() <= 0.5


@pytest.mark.parametrize("transform", FAMILIES, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_pose_that_is_no_number_reads_nothing_and_spoils_no_other(transform, wrong):
    layer = SpatialTransformer(Flat(), transform, count=2)
    count = len(transform.identity())
    maps = make_maps()
    warped, _ = posed(layer, maps, np.array([[wrong] * count, [0] * count]))
    np.testing.assert_array_equal(warped[:, 0], 0)
    np.testing.assert_allclose(warped[:, 1], maps, atol=1e-5)


@pytest.mark.parametrize(
    "transform", [f for f in FAMILIES if f != Rotation()], ids=lambda f: type(f).__name__
)
def test_a_singular_pose_reads_one_place(transform):
    """All zeros: every output pixel reads the middle of the map, where four pixels meet."""
    maps = make_maps()
    warped, _ = posed(SpatialTransformer(Flat(), transform), maps, -transform.identity())
    middle = maps[:, 2:4, 2:4].mean((1, 2))[:, None, None]
    np.testing.assert_allclose(warped[:, 0], np.broadcast_to(middle, warped[:, 0].shape), atol=1e-5)


def test_maps_of_one_pixel():
    maps = make_maps(size=1)
    for transform in FAMILIES:
        layer = SpatialTransformer(Flat(), transform, output_size=(3, 2), padding="border")
        warped, _ = layer.apply(layer.init(jax.random.key(0), maps), maps)  # type: ignore[misc]
        np.testing.assert_allclose(warped[:, 0], np.broadcast_to(maps, (2, 3, 2, 3)), atol=1e-6)


def test_bfloat16_keeps_places_in_float32():
    layer = SpatialTransformer(Flat(), Attention())
    maps = make_maps().astype(jnp.bfloat16)
    variables = layer.init(jax.random.key(0), maps)
    variables = jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)
    warped, theta = layer.apply(variables, maps)  # type: ignore[misc]
    assert (warped.dtype, theta.dtype) == (jnp.bfloat16, jnp.float32)


def test_it_learns_where_a_spot_is_from_the_looks_of_the_outcome_alone():
    """Every output should look like the spot in the middle; nobody says where the spot is."""

    y, x = jnp.meshgrid(*2 * [jnp.linspace(-1, 1, 12)], indexing="ij")

    def spots(key):
        at = jax.random.uniform(key, (32, 1, 1, 2), minval=-0.5, maxval=0.5)
        distance = (x - at[..., 0]) ** 2 + (y - at[..., 1]) ** 2
        return jnp.exp(-distance / 0.1)[..., None], at[:, 0, 0]

    layer = SpatialTransformer(Flat(), Attention(), align_corners=True)
    wanted = jnp.exp(-(x**2 + y**2) / 0.1)[None, None, ..., None]
    variables = layer.init(jax.random.key(0), spots(jax.random.key(1))[0])
    rule = optax.adam(1e-2)

    @jax.jit
    def step(carry, key):
        variables, state = carry

        def loss(variables):
            warped, _ = layer.apply(variables, spots(key)[0])  # type: ignore[misc]
            return jnp.square(warped - wanted).mean()

        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state = rule.update(gradient, state)
        return (optax.apply_updates(variables, updates), state), value

    keys = jax.random.split(jax.random.key(2), 400)
    (variables, _), losses = jax.lax.scan(step, (variables, rule.init(variables)), keys)
    maps, at = spots(jax.random.key(3))
    _, theta = layer.apply(variables, maps)  # type: ignore[misc]
    assert np.abs(theta[:, 0, 1:] - at).mean() < 0.05  # a pixel is 0.18 wide
    assert losses[-20:].mean() < 0.05 * losses[:5].mean()


def test_families_of_transforms_compare_by_value():
    """So that a module which has one is hashable, and a sweep can name it."""
    assert ThinPlateSpline(4) == ThinPlateSpline() != ThinPlateSpline(3)
    assert dataclasses.asdict(ThinPlateSpline(3)) == {"per_side": 3}
    assert len({Affine(), Affine(), Projective()}) == 2
