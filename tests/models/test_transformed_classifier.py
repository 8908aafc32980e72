"""Classifiers behind spatial transformers: what they see, that both parts learn, on one or eight devices."""

import cv2
import jax
import numpy as np
import optax

from vision_jax.data.distortions import Distortion, framed
from vision_jax.data.synthetic import Digits
from vision_jax.models.attention.spatial_transformer import Affine, SpatialTransformer, ThinPlateSpline
from vision_jax.models.attention.transformed_classifier import (
    Convolutional,
    FullyConnected,
    TransformedClassifier,
)
from vision_jax.tasks import classification
from vision_jax.training.state import initial_variables
from vision_jax.types import ClassificationBatch


def make_batch(count: int = 8, size: int = 28) -> ClassificationBatch:
    rng = np.random.default_rng(0)
    return ClassificationBatch(
        image=rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8),
        labels=rng.integers(0, 10, count).astype(np.int32),
        id=np.arange(count, dtype=np.int32),
        example_valid=np.arange(count) % 3 > 0,  # unlike numbers on each device
    )


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
    outputs = model.apply(model.init(jax.random.key(0), batch), batch)
    grey = batch.image.mean(-1) / 255
    np.testing.assert_allclose(outputs["warped"][:, 0, ..., 0], grey, atol=1e-5)  # type: ignore[index]


def test_two_transformers_and_two_channels_are_four_channels():
    batch = make_batch()
    two = SpatialTransformer(FullyConnected((8,)), Affine(), count=2)
    model = TransformedClassifier(19, FullyConnected((5,)), two, channels=2)
    variables = model.init(jax.random.key(0), batch)
    outputs = model.apply(variables, batch)
    for warped in np.moveaxis(outputs["warped"], 1, 0):  # type: ignore[index]
        np.testing.assert_allclose(warped, batch.image[..., :2] / 255, atol=1e-5)
    kernel = variables["params"]["network"]["Dense_0"]["kernel"]
    assert kernel.shape == (28 * 28 * 4, 5)
    # The blue channel is not looked at.
    other = batch.replace(image=np.where([True, True, False], batch.image, 9))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(model.apply(variables, other)["logits"], outputs["logits"])  # type: ignore


def test_the_update_of_eight_devices_is_that_of_one(stepped, same_update):
    transformer = SpatialTransformer(Convolutional((4,), (5,), (8,)), ThinPlateSpline(3))
    model, everything = TransformedClassifier(10, FullyConnected((16,)), transformer), make_batch(16)
    variables = initial_variables(model, jax.random.key(0), everything)
    # Away from the identity, where the localisation network would learn nothing in the first step.
    keys = iter(jax.random.split(jax.random.key(1), 100))
    variables = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(next(keys), x.shape), variables)
    one, eight = (stepped(model, variables, everything, devices) for devices in (1, 8))
    same_update(eight, one)


def test_it_learns_to_straighten_what_it_classifies():
    """Digits turned by up to 90 degrees: they are read, and what is looked at turns with them."""
    turned = Distortion(28, turn=90)
    data = classification("digits", distortion=turned).open(None)
    transformer = SpatialTransformer(FullyConnected((32, 32)), output_size=(14, 14))
    model = TransformedClassifier(10, FullyConnected((64,)), transformer)
    batches = data.train(64, 0, 0)
    first = next(batches)
    variables = jax.jit(model.init)(jax.random.key(0), first)
    rule = optax.adam(2e-3)

    @jax.jit
    def step(variables, state, batch):
        def loss(variables):
            return model.apply(variables, batch, method="loss")["cross_entropy"].value()  # type: ignore

        value, gradient = jax.value_and_grad(loss)(variables)
        updates, state = rule.update(gradient, state)
        return optax.apply_updates(variables, updates), state, value

    state = rule.init(variables)
    for _ in range(350):
        variables, state, _ = step(variables, state, next(batches))
    batches.close()
    score = jax.jit(model.apply)
    right = total = 0
    for batch in data.evaluation(300):
        predicted = score(variables, batch)["logits"].argmax(-1)
        right += int(((predicted == batch.labels) & batch.example_valid).sum())
        total += int(batch.example_valid.sum())
    assert right / total > 0.75

    # Digits turned step by step: the place it looks at turns with them.
    angles = np.linspace(-60, 60, 7)
    seen = np.stack([turn(digit, angle) for digit in upright() for angle in angles])
    outputs = score(variables, make_batch(len(seen)).replace(image=seen))  # type: ignore[attr-defined]
    theta = outputs["theta"].reshape(-1, 7, 2, 3)
    learnt = np.rad2deg(np.arctan2(theta[..., 1, 0] - theta[..., 0, 1], theta[..., 0, 0] + theta[..., 1, 1]))
    slopes = [np.polyfit(angles, each, 1)[0] for each in learnt]
    assert np.mean(slopes) > 0.4


def upright() -> list[np.ndarray]:
    """Twenty digits that are not trained on, filling their frames."""
    source = Digits("val")
    return [framed(source.image(i)) for i in range(20)]


def turn(digit: np.ndarray, degrees: float) -> np.ndarray:
    """Turned clockwise about its middle, as image rows go down."""
    return cv2.warpAffine(digit, cv2.getRotationMatrix2D((13.5, 13.5), -degrees, 1), (28, 28))
