"""Co-localization: the triplet loss by hand, what is trained, where boxes are, and that it finds."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from tests.batches import detection_of
from tests.models.overfitting import overfit
from vision_jax.models.spatial_transformers.colocalizer import CoLocalizer, CropEncoder
from vision_jax.models.spatial_transformers.spatial_transformer import Window
from vision_jax.models.spatial_transformers.transformed_classifier import Convolutional
from vision_jax.types import DetectionBatch

SIDE = 32


def make_batch(images, valid=None) -> DetectionBatch:
    n = len(images)
    there = np.ones(n, bool) if valid is None else np.asarray(valid)
    return detection_of(images, np.zeros((n, 1, 4)), np.zeros((n, 1)), example_valid=there)


def noise(count: int, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


def make_model(**settings) -> CoLocalizer:
    encoder = CropEncoder(10, Convolutional((4,), (5,)))
    localizer = Convolutional((8,), (5,), (16,), stride=2)
    return CoLocalizer(localizer, encoder, **{"sides": (0.3, 0.5), "size": 12, **settings})


OPEN = make_model(margin=100.0, agreement=1.0)  # so that the hinge is open everywhere, and the loss linear
ALONE = make_model(margin=100.0, agreement=0.0)


@pytest.fixture(scope="module")
def variables():
    """Those of a fresh model of any margin, for images of any number."""
    keys, model = {"params": jax.random.key(0), "sample": jax.random.key(1)}, make_model()
    return jax.jit(lambda batch: model.init(keys, batch, method="loss"))(make_batch(noise(4)))


@partial(jax.jit, static_argnums=0)
def loss(model, variables, batch):
    means = model.apply(variables, batch, method="loss", rngs={"sample": jax.random.key(2)})
    return means["triplet"]


@partial(jax.jit, static_argnums=(0, 3))
def apply(model, variables, inputs, method=None):
    return model.apply(variables, inputs, method=method)


def test_a_window_stays_within_its_bounds_and_begins_between_them():
    window = Window((0.25, 0.5))
    crop = jax.jit(window.crop)
    np.testing.assert_allclose(crop(np.zeros(3, np.float32)), [0.375, 0, 0])
    np.testing.assert_allclose(crop(np.array([50, 50, -50], np.float32)), [0.5, 1, -1], rtol=1e-6)
    np.testing.assert_allclose(crop(np.array([-50, 0, 0], np.float32)), [0.25, 0, 0], rtol=1e-6)
    # Outer pixels' centres lie half a pixel inside the crop: 0.375 * (1 - 1/4).
    corner = jax.jit(lambda theta: window.grid(theta, (4, 4), False)[0, 0])(np.zeros(3, np.float32))
    np.testing.assert_allclose(corner, [-0.28125, -0.28125], rtol=1e-6)


def test_at_first_the_box_is_in_the_middle(variables):
    found = apply(OPEN, variables, make_batch(noise(4)), "predict")
    side = 0.4 * SIDE
    expected = [SIDE / 2 - side / 2] * 2 + [SIDE / 2 + side / 2] * 2
    np.testing.assert_allclose(found.boxes, np.broadcast_to(np.array(expected), (4, 1, 4)), rtol=1e-5)
    assert found.valid.all()


def test_agreement_weighs_the_distance_to_the_next_images_crop(variables):
    batch = make_batch(noise(4))
    crops = apply(OPEN, variables, batch)["crops"]
    features = np.asarray(apply(OPEN, variables, crops, "encode"))
    alike = ((features - features[[3, 0, 1, 2]]) ** 2).sum(-1)
    with_it, without = (np.asarray(loss(model, variables, batch).total) for model in (OPEN, ALONE))
    np.testing.assert_allclose(with_it - without, alike.sum(), rtol=1e-3)


def test_images_that_are_alike_cost_the_margin_less_what_the_patch_differs(variables):
    batch = make_batch(np.repeat(noise(1), 4, axis=0))
    alone, full = (loss(model, variables, batch) for model in (ALONE, OPEN))
    np.testing.assert_allclose(alone.total, full.total)
    assert alone.weight == 4
    assert 0 < alone.total < 4 * ALONE.margin
    # A hinge that is shut costs nothing.
    assert loss(make_model(margin=-1e4), variables, batch).total == 0


def test_features_are_divided_by_the_scale(variables):
    crops = np.random.default_rng(0).uniform(size=(4, 12, 12, 1)).astype(np.float32)
    once = np.asarray(apply(OPEN, variables, crops, "encode"))
    doubled = {"params": {**variables["params"], "scale": np.float32(2)}}
    np.testing.assert_allclose(apply(OPEN, doubled, crops, "encode"), once / 2, rtol=1e-6)


def test_padding_takes_part_in_no_pair(variables):
    images = noise(4)
    batch = make_batch(images, [True, True, False, False])
    before = loss(OPEN, variables, batch)
    assert before.weight == 1  # the second with the first; the first one's partner is padding
    images = images.copy()
    images[2:] = 0
    after = loss(OPEN, variables, make_batch(images, batch.example_valid))
    np.testing.assert_allclose(after.total, before.total)


def moved(variables):
    """Away from the beginning, where the last layer is 0 and would hide the others' gradients."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: np.asarray(x) + 0.1 * rng.normal(size=x.shape).astype(np.float32), variables
    )


def test_the_encoder_is_left_alone(variables):
    batch = make_batch(noise(4))
    gradient = jax.jit(jax.grad(lambda v: loss(OPEN, v, batch).total))(moved(variables))["params"]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves([gradient["encoder"], gradient["scale"]]))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient["transformer"]))


@pytest.mark.slow
def test_the_update_of_eight_devices_is_that_of_one(stepped, variables):
    """Pairs reach across devices, and padding is unlike on each."""
    batch, model = make_batch(noise(16), np.arange(16) % 5 != 3), make_model(margin=1e4)
    one, eight = (stepped(model, moved(variables), batch, devices) for devices in (1, 8))
    assert one.metrics.terms.keys() == {"triplet"}
    for name, leaves in one.after.opt_state[0].trace.items():
        many = jax.tree.leaves(eight.after.opt_state[0].trace[name])
        for a, b in zip(many, jax.tree.leaves(leaves), strict=True):
            assert (np.linalg.norm(b) > 0) == (name not in ("encoder", "scale"))
            assert np.linalg.norm(np.asarray(a) - b) <= 1e-4 * np.linalg.norm(b)


@pytest.mark.slow
def test_it_finds_what_the_images_share(variables):
    """A bright spot somewhere; nobody says where, and the encoder is as it was initialized."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    at = rng.uniform(6, SIDE - 6, (32, 2))
    spots = np.exp(-((x - at[:, :1, None]) ** 2 + (y - at[:, 1:, None]) ** 2) / 9)
    batch = make_batch(np.repeat(255 * spots[..., None], 3, axis=-1).astype(np.uint8))
    for agreement in (0.0, 1.0):
        model = make_model(agreement=agreement)
        variables, _ = overfit(model, batch, optax.adam(3e-3), 120, variables)
    boxes = np.asarray(apply(make_model(), variables, batch, "predict").boxes)[:, 0]
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - at
    assert np.abs(offset).max(1).mean() < 5  # spots are seen: boxes in the middle are 6.6 away
    assert np.median(np.abs(offset - np.median(offset, 0)).max(1)) < 2  # and all at the same place
