"""Inception networks that torchvision has no weights for, as their papers train them."""

from __future__ import annotations

from typing import Literal

from vision_jax.backbones.inception_v2 import InceptionV2
from vision_jax.backbones.inception_v4 import InceptionResNet, InceptionV4
from vision_jax.layers.images import HALF
from vision_jax.models.classification.image_classifier import AverageHead, ImageClassifier

InceptionName = Literal["inception_v2", "inception_v4", "inception_resnet_v1", "inception_resnet_v2"]

# (source, side of the paper's images in pixels)
INCEPTIONS: dict[InceptionName, tuple[str, int]] = {
    "inception_v2": ("Ioffe and Szegedy 2015", 224),
    "inception_v4": ("Szegedy et al. 2017", 299),
    "inception_resnet_v1": ("Szegedy et al. 2017", 299),
    "inception_resnet_v2": ("Szegedy et al. 2017", 299),
}


def inception(name: InceptionName, num_classes: int) -> ImageClassifier:
    """A classifier; those of 2017 drop 0.2 of the features (their figure 9), and smooth labels as v3 does.

    Args:
        name: which.
        num_classes: K.
    """
    if name == "inception_v2":
        return ImageClassifier(InceptionV2(), num_classes, mean=HALF, std=HALF)
    if name == "inception_v4":
        backbone = InceptionV4()
    else:
        backbone = InceptionResNet("v1" if name == "inception_resnet_v1" else "v2")
    head = AverageHead(0.2)
    return ImageClassifier(backbone, num_classes, head, label_smoothing=0.1, mean=HALF, std=HALF)
