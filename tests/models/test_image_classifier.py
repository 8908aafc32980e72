"""Backbones with a head: they overfit, and their auxiliary classifiers and dropout work in training alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.batches import classification_of
from tests.models.overfitting import overfit
from vision_jax.backbones.googlenet import GoogLeNet
from vision_jax.backbones.inception import InceptionV3
from vision_jax.backbones.mobilenet import MobileNet, Residual
from vision_jax.backbones.vgg import VGG
from vision_jax.layers.conv import torch_uniform
from vision_jax.models.classification.image_classifier import (
    Auxiliary,
    AverageHead,
    ConvolutionHead,
    ImageClassifier,
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


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_network_overfits(name):
    model, images = TINY[name], batch(16)
    variables, losses = overfit(model, images, optax.adam(3e-3), 40)
    assert losses[-5:].mean() / losses[0] < 0.3
    found = jax.jit(partial(model.apply, method="predict"))(variables, images)
    assert (found.labels == images.labels).mean() > 0.9


def test_dropout_in_training_alone():
    model, images = TINY["vgg"], batch(16, 4)
    variables = model.init({"params": jax.random.key(0), "sample": jax.random.key(1)}, images)

    @jax.jit
    def logits(key):
        outputs, _ = model.apply(variables, images, True, rngs={"sample": key}, mutable=["batch_stats"])
        return outputs["logits"]

    assert (logits(jax.random.key(1)) != logits(jax.random.key(2))).any()
    plain = model.apply(variables, images, rngs={"sample": jax.random.key(1)})
    assert jnp.array_equal(plain["logits"], model.apply(variables, images)["logits"])


def test_labels_are_smoothed_in_training_alone():
    model, images = TINY["mobilenet"], batch(16)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    smooth = model.clone(label_smoothing=0.5)

    def loss(model, train):
        mean = model.apply(variables, images, train, method="loss", mutable=["batch_stats"])[0][
            "cross_entropy"
        ]
        return float(mean.value())

    assert loss(smooth, False) == loss(model, False)
    assert abs(loss(smooth, True) - loss(model, True)) > 1e-4


def test_auxiliary_classifiers_in_training_alone():
    auxiliary = tuple(Auxiliary(level, PooledHead(), 0.5) for level in ("4a", "4d"))
    model, images = ImageClassifier(GoogLeNet(), 3, auxiliary=auxiliary), batch(64, 2)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    variables = jax.eval_shape(model.init, rngs, images)

    def terms(variables, train):
        return model.apply(variables, images, train, method="loss", rngs=rngs, mutable=["batch_stats"])[0]

    training = jax.eval_shape(lambda v: terms(v, True), variables)
    assert set(training) == {"cross_entropy", "auxiliary_1", "auxiliary_2"}
    assert set(jax.eval_shape(lambda v: terms(v, False), variables)) == {"cross_entropy"}


def test_a_map_too_small_for_its_auxiliary_classifier():
    model = ImageClassifier(InceptionV3(), 3, auxiliary=(Auxiliary("c4", ConvolutionHead()),))
    with pytest.raises(UserError, match="maps of 17x17, not 6x6"):
        jax.eval_shape(model.init, jax.random.key(0), batch(128, 1))
