"""The layer: begins at the identity, warps as its pose says, keeps its bounds, learns a pose unaided."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.models.spatial_transformers.spatial_transformer import (
    Affine,
    Attention,
    Projective,
    Rotation,
    SpatialTransformer,
    ThinPlateSpline,
)

FAMILIES = [Attention(), Rotation(), Affine(), Projective(), ThinPlateSpline(3)]


class Flat(nn.Module):
    """A localization network: one hidden layer over all pixels."""

    @nn.compact
    def __call__(self, maps, train):
        return nn.relu(nn.Dense(16)(maps.reshape(len(maps), -1)))


def make_maps(size: int = 6, count: int = 2, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, size, size, channels)).astype(np.float32)


@partial(jax.jit, static_argnums=0)
def posed(layer: SpatialTransformer, maps: jax.Array, offset: np.ndarray):
    """A fresh layer's outputs with an offset added to its bias, by which the pose differs from the identity.

    One program for a layer, whatever the offset.
    """
    variables = layer.init(jax.random.key(0), maps)
    pose = variables["params"]["pose"]
    pose["bias"] += jnp.asarray(offset, pose["bias"].dtype).reshape(pose["bias"].shape)
    return layer.apply(variables, maps)


@pytest.mark.parametrize("transform", FAMILIES, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize(
    ("align_corners", "count"),
    [
        (False, 2),
        pytest.param(False, 1, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
    ],
)
def test_it_begins_at_the_identity(transform, align_corners, count):
    maps = make_maps()
    layer = SpatialTransformer(Flat(), transform, align_corners=align_corners, count=count)
    warped, theta = posed(layer, maps, np.zeros((count, len(transform.identity())), np.float32))
    np.testing.assert_array_equal(theta, np.tile(transform.identity(), (2, count, 1)))
    np.testing.assert_allclose(warped, np.stack([maps] * count, 1), atol=1e-5)


def test_a_crop_of_another_size_by_hand():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    layer = SpatialTransformer(Flat(), Attention(), output_size=(2, 2))
    # Half the size, moved by a pixel to the right and one up: the pixels of rows 0 and 1, columns 2 and 3.
    warped, theta = posed(layer, image, np.array([-0.5, 0.5, -0.5]))
    np.testing.assert_allclose(theta, [[[0.5, 0.5, -0.5]]])
    np.testing.assert_allclose(warped[0, 0, ..., 0], [[2, 3], [6, 7]], atol=1e-6)


def test_each_of_several_transforms_has_its_own_pose():
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
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

    @jax.jit
    def moved(maps):
        variables = Chain().init(jax.random.key(0), maps)
        for name in ("first", "second"):
            variables["params"][name]["pose"]["bias"] = jnp.asarray(shift, jnp.float32)
        return Chain().apply(variables, maps)

    maps = make_maps()
    twice = moved(maps)
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


@pytest.mark.parametrize("count", [2, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "transform", [f for f in FAMILIES if f != Rotation()], ids=lambda f: type(f).__name__
)
def test_a_singular_pose_reads_one_place(transform, count):
    """All zeros: every output pixel reads the middle of the map, where four pixels meet."""
    maps, layer = make_maps(), SpatialTransformer(Flat(), transform, count=count)
    warped, _ = posed(layer, maps, np.tile(-transform.identity(), (count, 1)))
    middle = maps[:, 2:4, 2:4].mean((1, 2))[:, None, None, None]
    np.testing.assert_allclose(warped, np.broadcast_to(middle, warped.shape), atol=1e-5)


def test_maps_of_one_pixel():
    layers = [SpatialTransformer(Flat(), f, output_size=(3, 2), padding="border") for f in FAMILIES]

    @jax.jit
    def everything(maps):
        return [layer.apply(layer.init(jax.random.key(0), maps), maps)[0] for layer in layers]  # type: ignore

    maps = make_maps(size=1)
    for warped in everything(maps):
        np.testing.assert_allclose(warped[:, 0], np.broadcast_to(maps, (2, 3, 2, 3)), atol=1e-6)


def test_bfloat16_keeps_places_in_float32():
    layer = SpatialTransformer(Flat(), Attention())
    maps = make_maps().astype(jnp.bfloat16)

    def outputs(maps):
        variables = layer.init(jax.random.key(0), maps)
        return layer.apply(jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables), maps)

    warped, theta = jax.eval_shape(outputs, maps)
    assert (warped.dtype, theta.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.slow
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
