"""A backbone, a head on its last map, and a linear layer: the ImageNet classifiers of the literature."""

from __future__ import annotations

from dataclasses import dataclass, replace

import flax.linen as nn
from jaxtyping import Array, Float, Key

from vision_jax.layers import Dense, normalize
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.dropout import drop
from vision_jax.layers.images import IMAGENET_MEAN, IMAGENET_STD
from vision_jax.layers.keys import fold_ids
from vision_jax.layers.norms import NormKind
from vision_jax.layers.pooling import adaptive_average_pool, average_pool
from vision_jax.models.classification.classifier import class_loss, most_probable
from vision_jax.models.protocols import AuxiliaryHead, Backbone, ImageHead
from vision_jax.models.terms import at_least_float32
from vision_jax.types import Classification, ClassificationBatch, Count, FractionBelow1, Mean, UserError


class AverageHead(nn.Module):
    """The mean over all locations (Lin, Chen and Yan 2014, section 3.2).

    Attributes:
        dropout: of the mean.
    """

    dropout: float = 0.0

    def __call__(
        self, x: Float[Array, "b h w c"], keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b c"]:
        """Features; `keys` of each image are for dropout."""
        return drop(x.mean((1, 2)), self.dropout, keys)


class SwishHead(nn.Module):
    """The mean over all locations, a linear layer, x relu6(x + 3) / 6 (Howard et al. 2019, section 5.1).

    Attributes:
        width: units of the layer.
        dropout: after it.
    """

    width: int
    dropout: float = 0.2

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b f"]:
        """Features; `keys` of each image are for dropout."""
        return drop(nn.hard_swish(Dense(self.width, name="layer")(x.mean((1, 2)))), self.dropout, keys)


class LayersHead(nn.Module):
    """Two linear layers with ReLUs over all locations of a map that is pooled to one size.

    Attributes:
        side: rows and columns of it.
        width: units of each layer.
        dropout: of its input and between the layers (Krizhevsky et al. 2012), or after each (`after`).
        after: whether it is after each layer (Simonyan and Zisserman 2015), not before.
        kernel_init: of the kernels.
    """

    side: int = 7
    width: int = 4096
    dropout: float = 0.5
    after: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.01)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b f"]:
        """Features; `keys` of each image are for dropout."""
        x = adaptive_average_pool(x, (self.side, self.side)).reshape(len(x), -1)
        for i in range(2):
            x = x if self.after else drop(x, self.dropout, keys, i)
            x = nn.relu(Dense(self.width, self.kernel_init, name=f"layer{i + 1}")(x))
            x = drop(x, self.dropout, keys, i) if self.after else x
        return x


class PooledHead(nn.Module):
    """An auxiliary classifier's: a 1x1 convolution on 4x4 averages and a linear layer (Szegedy et al. 2015).

    Attributes:
        dropout: after the layer.
        norm: after the convolution.
    """

    dropout: float = 0.7
    norm: NormKind = "batch"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], keys: Key[Array, " b"] | None = None, train: bool = False
    ) -> Float[Array, "b 1024"]:
        """Features; `keys` of each image are for dropout."""
        x = ConvNorm(128, norm=self.norm, name="conv")(adaptive_average_pool(x, (4, 4)), train)
        return drop(nn.relu(Dense(1024, name="layer")(x.reshape(len(x), -1))), self.dropout, keys, 1)


class InceptionAuxiliaryHead(nn.Module):
    """An auxiliary classifier's: two convolutions on 5x5 averages (Szegedy et al. 2016, figure 8).

    Attributes:
        norm: after the convolutions.
    """

    norm: NormKind = "batch"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], keys: Key[Array, " b"] | None = None, train: bool = False
    ) -> Float[Array, "b 768"]:
        """Features of maps of 17x17 or more, which images of 299 pixels have."""
        if min(x.shape[1:3]) < 17:
            raise UserError(
                f"the auxiliary classifier of Inception v3 needs maps of 17x17, not {x.shape[1]}x"
                f"{x.shape[2]}: train on images of 299 pixels or more, or without it"
            )
        x = ConvNorm(128, norm=self.norm, name="conv1")(average_pool(x, 5, 3), train)
        return ConvNorm(768, 5, padding=0, norm=self.norm, name="conv2")(x, train).mean((1, 2))


@dataclass(frozen=True)
class Auxiliary:
    """A classifier of a map in the middle, which helps a deep network learn (Szegedy et al. 2015, section 5).

    Attributes:
        level: the map it sees.
        head: (map, keys, train) -> features [B, F].
        weight: of its loss.
    """

    level: str
    head: AuxiliaryHead
    weight: float = 0.3


class ImageClassifier(CheckedModule):
    """A classifier of natural images.

    Attributes:
        backbone: (normalized images, train) -> feature maps by name.
        num_classes: K; there is no background class.
        head: (map, keys) -> features [B, F].
        level: the map that the head sees.
        auxiliary: classifiers of other maps, when it is trained.
        label_smoothing: of the loss in training (`class_loss`).
        mean, std: by which images are normalized, for values in 0..1.
    """

    backbone: Backbone
    num_classes: Count
    head: ImageHead = AverageHead()
    level: str = "c5"
    auxiliary: tuple[Auxiliary, ...] = ()
    label_smoothing: FractionBelow1 = 0.0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def setup(self) -> None:
        self.classifier = Dense(self.num_classes)
        self.auxiliary_heads = [each.head.clone() for each in self.auxiliary]
        self.auxiliary_classifiers = [Dense(self.num_classes) for _ in self.auxiliary]

    def scores(
        self, x: Float[Array, "b h w 3"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> dict[str, Float[Array, "..."]]:
        """Scores normalized images.

        Args:
            x: images.
            train: handed to the backbone, for its norms.
            keys: of each image, for dropout; None drops nothing.

        Returns:
            The backbone's maps by name, and `logits` [B, K]; when training also `auxiliary/1`, ... [B, K].
        """
        maps = self.backbone(x, train)
        features = self.head(maps[self.level], keys)
        outputs = {**maps, "logits": at_least_float32(self.classifier(features))}
        if train or self.is_initializing():
            for i, each in enumerate(self.auxiliary):
                features = self.auxiliary_heads[i](maps[each.level], keys, train)
                outputs[f"auxiliary/{i + 1}"] = at_least_float32(self.auxiliary_classifiers[i](features))
        return outputs

    def __call__(self, batch: ClassificationBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Scores each image.

        Args:
            batch: images of one size.
            train: whether there is dropout, and norms use this batch's statistics.

        Returns:
            As `scores`.
        """
        keys = fold_ids(self.make_rng("sample"), batch.id) if train and self.has_rng("sample") else None
        return self.scores(normalize(batch.image, mean=self.mean, std=self.std), train, keys)

    def loss(self, batch: ClassificationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the images that are no padding examples, in training for every classifier."""
        outputs = self(batch, train)
        smoothing = self.label_smoothing if train else 0.0
        terms = class_loss(outputs["logits"], batch, smoothing)
        for i, each in enumerate(self.auxiliary if train else ()):
            (term,) = class_loss(outputs[f"auxiliary/{i + 1}"], batch, smoothing).values()
            terms[f"auxiliary_{i + 1}"] = replace(term, total=each.weight * term.total)
        return terms

    def predict(self, batch: ClassificationBatch) -> Classification:
        """The most probable class of each image."""
        return most_probable(self(batch)["logits"])
