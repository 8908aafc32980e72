"""Backbones with a head: they overfit, and their auxiliary classifiers and dropout work in training alone."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from tests.batches import classification_of
from tests.models.overfitting import overfit
from vision_jax.backbones.googlenet import GoogLeNet
from vision_jax.backbones.inception import InceptionV3
from vision_jax.backbones.mobilenet import MobileNet, Residual
from vision_jax.backbones.resnet import ResNet
from vision_jax.backbones.vgg import VGG
from vision_jax.layers.conv import torch_uniform
from vision_jax.models.classification.image_classifier import (
    Auxiliary,
    AverageHead,
    ImageClassifier,
    InceptionAuxiliaryHead,
    LayersHead,
    PooledHead,
)
from vision_jax.types import UserError


def batch(side, count=16):
    """Bright above or bright below, with noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    image = rng.integers(0, 120, (count, side, side, 3))
    half = side // 2
    image[labels == 0, :half] += 100
    image[labels == 1, half:] += 100
    return classification_of(image.astype(np.uint8), labels)


TINY = {
    "vgg": ImageClassifier(
        VGG((1, 1), (8, 16), norm="batch"), 2, LayersHead(2, 32, kernel_init=torch_uniform), level="c2"
    ),
    "mobilenet": ImageClassifier(
        MobileNet(8, (Residual(8, 8), Residual(32, 16, 5, 2, True, "hard_swish")), 32),
        2,
        AverageHead(0.2),
        "c2",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_tiny_network_overfits(name):
    model, images = TINY[name], batch(16)
    variables, losses = overfit(model, images, optax.adam(3e-3), 40)
    assert losses[-5:].mean() / losses[0] < 0.3
    found = jax.jit(partial(model.apply, method="predict"))(variables, images)
    assert (found.labels == images.labels).mean() > 0.9


def test_dropout_in_training_alone():
    model, images = TINY["vgg"], batch(16, 4)

    @jax.jit
    def logits(images):
        one, two = jax.random.key(1), jax.random.key(2)
        variables = model.init({"params": jax.random.key(0), "sample": one}, images)
        training = [
            model.apply(variables, images, True, rngs={"sample": key}, mutable=["batch_stats"])[0]
            for key in (one, two)
        ]
        plain = [model.apply(variables, images, rngs={"sample": one}), model.apply(variables, images)]
        return [outputs["logits"] for outputs in (*training, *plain)]

    one, two, with_key, without = map(np.asarray, logits(images))
    assert (one != two).any()
    assert np.array_equal(with_key, without)


def test_labels_are_smoothed_in_training_alone():
    model = TINY["mobilenet"]

    @jax.jit
    def losses(images):
        variables = model.init(jax.random.key(0), images)
        options = {"method": "loss", "mutable": ["batch_stats"]}
        return {
            (smoothing, train): model.clone(label_smoothing=smoothing)
            .apply(variables, images, train, **options)[0]["cross_entropy"]
            .value()
            for smoothing in (0.0, 0.5)
            for train in (False, True)
        }

    found = jax.device_get(losses(batch(16)))
    assert found[0.5, False] == found[0.0, False]
    assert abs(found[0.5, True] - found[0.0, True]) > 1e-4


@pytest.mark.parametrize(
    ("backbone", "levels"),
    [
        (ResNet((1, 1, 1, 1), False, width=8), ("c3", "c4")),
        pytest.param(GoogLeNet(), ("4a", "4d"), marks=pytest.mark.slow),
    ],
)
def test_auxiliary_classifiers_in_training_alone(backbone, levels):
    auxiliary = tuple(Auxiliary(level, PooledHead(), 0.5) for level in levels)
    model, images = ImageClassifier(backbone, 3, auxiliary=auxiliary), batch(64, 2)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = jax.eval_shape(model.init, rngs, images)

    def terms(variables, train):
        return model.apply(variables, images, train, method="loss", rngs=rngs, mutable=["batch_stats"])[0]

    training = jax.eval_shape(lambda v: terms(v, True), variables)
    assert set(training) == {"cross_entropy", "auxiliary_1", "auxiliary_2"}
    assert set(jax.eval_shape(lambda v: terms(v, False), variables)) == {"cross_entropy"}


@pytest.mark.parametrize(
    ("backbone", "side"),
    [
        (ResNet((1, 1, 1, 1), False, width=8), 96),
        pytest.param(InceptionV3(), 128, marks=pytest.mark.slow),
    ],
)
def test_a_map_too_small_for_its_auxiliary_classifier(backbone, side):
    model = ImageClassifier(backbone, 3, auxiliary=(Auxiliary("c4", InceptionAuxiliaryHead()),))
    with pytest.raises(UserError, match="maps of 17x17, not 6x6"):
        jax.eval_shape(model.init, jax.random.key(0), batch(side, 1))
