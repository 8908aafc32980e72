"""Classifiers behind spatial transformers: what they see, that both parts learn, on one or eight devices."""

from typing import Literal

import cv2
import jax
import numpy as np
import optax
import pytest

from tests import batches
from vision_jax.data.digits.distortions import framed
from vision_jax.data.formats.synthetic.digits import Digits
from vision_jax.models.spatial_transformers.spatial_transformer import (
    Affine,
    SpatialTransformer,
    ThinPlateSpline,
)
from vision_jax.models.spatial_transformers.transformed_classifier import (
    Convolutional,
    FullyConnected,
    TransformedClassifier,
)
from vision_jax.training.state import initial_variables
from vision_jax.types import ClassificationBatch


def make_batch(count: int = 8, size: int = 28) -> ClassificationBatch:
    return batches.classification(count, size, classes=10)


def parameters(model) -> int:
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), make_batch()))["params"]
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def test_parameters_counted_by_hand():
    fcn = 784 * 256 + 256 + 256 * 200 + 200 + 200 * 10 + 10
    assert parameters(TransformedClassifier(10, FullyConnected())) == fcn
    # 28 -> 20 -> 10 -> 4 -> 2 pixels a side.
    cnn = 81 * 32 + 32 + 49 * 32 * 64 + 64 + 2 * 2 * 64 * 10 + 10
    assert parameters(TransformedClassifier(10, Convolutional())) == cnn
    pose = 784 * 16 + 16 + 16 * 2 * 6 + 2 * 6
    twice = SpatialTransformer(FullyConnected((16,)), Affine(), count=2)
    assert parameters(TransformedClassifier(10, FullyConnected(), twice)) == fcn + 784 * 256 + pose


def test_at_first_it_sees_the_image_in_grey():
    batch = make_batch()
    model = TransformedClassifier(10, FullyConnected(), SpatialTransformer(FullyConnected((8,)), Affine()))
    run = jax.jit(lambda batch: model.apply(model.init(jax.random.key(0), batch), batch))
    gray = batch.image.mean(-1) / 255
    np.testing.assert_allclose(run(batch)["warped"][:, 0, ..., 0], gray, atol=1e-5)


def test_two_transformers_and_two_channels_are_four_channels():
    batch = make_batch()
    two = SpatialTransformer(FullyConnected((8,)), Affine(), count=2)
    model = TransformedClassifier(19, FullyConnected((5,)), two, channels=2)

    @jax.jit
    def run(batch):
        variables = model.init(jax.random.key(0), batch)
        return model.apply(variables, batch), variables["params"]["network"]["Dense_0"]["kernel"]

    outputs, kernel = run(batch)
    for warped in np.moveaxis(outputs["warped"], 1, 0):
        np.testing.assert_allclose(warped, batch.image[..., :2] / 255, atol=1e-5)
    assert kernel.shape == (28 * 28 * 4, 5)
    # The blue channel is not looked at.
    other = batch.replace(image=np.where([True, True, False], batch.image, 9).astype(np.uint8))
    np.testing.assert_array_equal(run(other)[0]["logits"], outputs["logits"])


@pytest.mark.slow
def test_the_update_of_eight_devices_is_that_of_one(stepped, same_update):
    transformer = SpatialTransformer(Convolutional((4,), (5,), (8,)), ThinPlateSpline(3))
    model, everything = TransformedClassifier(10, FullyConnected((16,)), transformer), make_batch(16)
    variables = initial_variables(model, jax.random.key(0), everything)
    # Away from the identity, where the localization network would learn nothing in the first step.
    keys = iter(jax.random.split(jax.random.key(1), 100))
    variables = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(next(keys), x.shape), variables)
    one, eight = (stepped(model, variables, everything, devices) for devices in (1, 8))
    same_update(eight, one)


@pytest.mark.slow
def test_it_learns_to_straighten_what_it_classifies():
    """Digits turned by up to 60 degrees: they are read, and the location that it looks at turns with them.

    Up to 90 degrees, it reads some digits as they are and turns with none, from one seed in three.
    """
    random, train = np.random.default_rng(0), framed_digits("train", 1437)
    transformer = SpatialTransformer(FullyConnected((32, 32)), output_size=(14, 14))
    model = TransformedClassifier(10, FullyConnected((64,)), transformer)
    variables = jax.jit(model.init)(jax.random.key(0), make_batch())
    rule = optax.adam(optax.cosine_decay_schedule(2e-3, 160))

    @jax.jit
    def step(variables, state, batch):
        def loss(variables):
            return model.apply(variables, batch, method="loss")["cross_entropy"].value()  # type: ignore

        updates, state = rule.update(jax.grad(loss)(variables), state)
        return optax.apply_updates(variables, updates), state

    state = rule.init(variables)
    for _ in range(160):
        chosen = [train[i] for i in random.integers(len(train), size=64)]
        variables, state = step(variables, state, turned_batch(chosen, random.uniform(-60, 60, 64)))

    # Other digits, each turned step by step.
    angles, val = np.linspace(-45, 45, 7), framed_digits("val", 50)
    batch = turned_batch([each for each in val for _ in angles], np.tile(angles, len(val)))
    outputs = jax.jit(model.apply)(variables, batch)
    assert (outputs["logits"].argmax(-1) == batch.labels).mean() > 0.7
    theta = outputs["theta"].reshape(-1, 7, 2, 3)
    learnt = np.rad2deg(np.arctan2(theta[..., 1, 0] - theta[..., 0, 1], theta[..., 0, 0] + theta[..., 1, 1]))
    slopes = [np.polyfit(angles, each, 1)[0] for each in learnt]
    assert np.mean(slopes) > 0.5


def framed_digits(split: Literal["train", "val"], count: int) -> list[tuple[np.ndarray, int]]:
    """A split's first digits as they are seen, 28x28 pixels, with their labels."""
    digits = Digits(split)
    return [(framed(digits.image(i)), digits.record(i).label) for i in range(count)]


def turned_batch(digits: list[tuple[np.ndarray, int]], degrees: np.ndarray) -> ClassificationBatch:
    """Digits with their labels, each turned clockwise about its middle, as image rows go down."""
    images = [
        cv2.warpAffine(image, cv2.getRotationMatrix2D((13.5, 13.5), -angle, 1), (28, 28))
        for (image, _), angle in zip(digits, degrees, strict=True)
    ]
    return batches.classification_of(np.stack(images), [label for _, label in digits])
