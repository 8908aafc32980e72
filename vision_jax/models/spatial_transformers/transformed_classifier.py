"""Classifiers with and without a spatial transformer (Jaderberg et al. 2015, section 4.1, appendix A.4).

Two plain networks, fully connected and convolutional. Each can stand alone, behind a spatial transformer that
straightens its input, and, narrower, inside one as its localization network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.layers import Conv, Dense
from vision_jax.layers.images import gray
from vision_jax.layers.pooling import max_pool_2x2
from vision_jax.models.classification.classifier import class_loss, most_probable
from vision_jax.models.protocols import FeatureNetwork
from vision_jax.models.spatial_transformers.spatial_transformer import SpatialTransformer, Transform
from vision_jax.types import Classification, ClassificationBatch, Mean


class FullyConnected(nn.Module):
    """Linear layers, each with a ReLU, over all pixels at once.

    Attributes:
        widths: hidden units of each.
    """

    widths: Sequence[int] = (256, 200)

    def __call__(self, maps: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b f"]:
        """Features of each image; the same when training."""
        return self.layers(maps)[-1]

    @nn.compact
    def layers(self, maps: Float[Array, "b h w c"]) -> list[Float[Array, "b _f"]]:
        """The input and each layer's activations, flattened."""
        layers = [maps.reshape(len(maps), -1)]
        for width in self.widths:
            layers.append(nn.relu(Dense(width)(layers[-1])))
        return layers


class Convolutional(nn.Module):
    """Convolutions without padding, each with a ReLU and a 2x2 max-pool; then linear layers.

    Attributes:
        widths: channels of each convolution.
        sizes: of their kernels, in pixels.
        hidden: units of linear layers over the last maps, each with a ReLU.
        stride: of every convolution, in pixels.
    """

    widths: Sequence[int] = (32, 64)
    sizes: Sequence[int] = (9, 7)
    hidden: Sequence[int] = ()
    stride: int = 1

    def __call__(self, maps: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b f"]:
        """Features of each image; the same when training."""
        return self.layers(maps)[-1]

    @nn.compact
    def layers(self, maps: Float[Array, "b h w c"]) -> list[Float[Array, "b _f"]]:
        """The input and each layer's activations, a convolution's after its pooling, flattened."""
        x, layers = maps, [maps.reshape(len(maps), -1)]
        for width, size in zip(self.widths, self.sizes, strict=True):
            x = max_pool_2x2(nn.relu(Conv(width, size, self.stride, padding=0)(x)))
            layers.append(x.reshape(len(x), -1))
        return [*layers, *FullyConnected(self.hidden).layers(x)[1:]]


class TransformedClassifier(nn.Module):
    """A network's features and a linear layer, on images as they are or as a spatial transformer sees them.

    Attributes:
        num_classes: K; there is no background class.
        network: (maps, train) -> features [B, F].
        transformer: what stands before it, if anything; the several warped images of one are its channels.
        channels: of the images: 0 makes them gray, else the first so many are seen.
    """

    num_classes: int
    network: FeatureNetwork
    transformer: SpatialTransformer | None = None
    channels: int = 0

    @nn.compact
    def __call__(self, batch: ClassificationBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Scores each image; light on black, 0 to 1.

        Returns:
            `features` [B, F] and `logits` [B, K]; with a transformer `theta` [B, N, parameters] and what is
            seen through it, `warped` [B, N, H', W', C].
        """
        outputs = {}
        if self.channels:
            x = jnp.asarray(batch.image[..., : self.channels], jnp.float32) / 255
        else:
            x = gray(batch.image)
        if self.transformer is not None:
            outputs["warped"], outputs["theta"] = self.transformer(x, train)
            x = jnp.moveaxis(outputs["warped"], 1, -2)
            x = x.reshape(*x.shape[:3], -1)
        outputs["features"] = self.network(x, train)
        outputs["logits"] = Dense(self.num_classes)(outputs["features"]).astype(jnp.float32)
        return outputs

    def loss(self, batch: ClassificationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the images that are no padding examples."""
        return class_loss(self(batch, train)["logits"], batch)

    def predict(self, batch: ClassificationBatch) -> Classification:
        """The most probable class of each image."""
        return most_probable(self(batch)["logits"])


NetworkName = Literal["fcn", "cnn"]

_NETWORKS = {"fcn": FullyConnected((256, 200)), "cnn": Convolutional((32, 64), (9, 7))}
_LOCALIZERS = {"fcn": FullyConnected((32, 32, 32)), "cnn": Convolutional((20, 20), (5, 5), (20,))}


def digit_classifier(
    num_classes: int,
    network: NetworkName,
    transform: Transform | None = None,
    count: int = 1,
    channels: int = 0,
) -> TransformedClassifier:
    """The paper's networks for distorted digits (appendix A.4): FCN, CNN, ST-FCN and ST-CNN.

    Args:
        num_classes: K.
        network: fully connected or convolutional; a transformer's localization network is of the same kind.
        transform: the transformer's family; no transformer if None.
        count: transforms beside each other.
        channels: of the images: 0 makes them gray, else the first so many are seen.
    """
    transformer = None
    if transform is not None:
        transformer = SpatialTransformer(_LOCALIZERS[network], transform, count=count)
    return TransformedClassifier(num_classes, _NETWORKS[network], transformer, channels)
