"""Fully convolutional networks with skips (Long, Shelhamer and Darrell 2015, section 4).

Coarse class scores of the deepest map are upsampled and added to scores of shallower ones, then upsampled to
the image: FCN-32s scores stride 32 alone, FCN-16s adds stride 16, FCN-8s stride 8.
"""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Key

from vision_jax.layers import Conv
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.conv_transpose import ConvTranspose, bilinear_init
from vision_jax.layers.dropout import drop
from vision_jax.layers.norms import NormKind
from vision_jax.models.protocols import Backbone, PixelHead


class FCNHead(nn.Module):
    """A 3x3 convolution, its norm, a ReLU and dropout: what torchvision's FCN scores.

    Attributes:
        features: output channels.
        dropout: of them.
        norm: after the convolution.
        layer: which of a network's dropouts that is.
    """

    features: int
    dropout: float = 0.1
    norm: NormKind = "batch"
    layer: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b h w o"]:
        """Features; `keys` of each image are for dropout."""
        x = ConvNorm(self.features, 3, norm=self.norm, epsilon=1e-5, name="conv")(x, train)
        return drop(x, self.dropout, keys, self.layer)


class ConvolvedLayers(nn.Module):
    """VGG's two linear layers as convolutions, so that they answer at every location (section 3.1).

    Attributes:
        width: units of each.
        size: of the first one's kernel, in locations.
        dropout: after each.
    """

    width: int = 4096
    size: int = 7
    dropout: float = 0.5

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b h w o"]:
        """Features; `keys` of each image are for dropout."""
        for i, size in enumerate((self.size, 1)):
            x = drop(nn.relu(Conv(self.width, size, name=f"layer{i + 1}")(x)), self.dropout, keys, i)
        return x


class FCN(nn.Module):
    """An FCN on any backbone.

    Attributes:
        num_classes: K; there is no background class, void pixels have no label.
        backbone: (normalized images, train) -> feature maps by name.
        skips: names of the maps to score, deepest first.
        used: how many of them, all if None. A stage of training can begin with 1 and the next add one
            (section 4.2): what the others will need is among the parameters from the start, to be frozen
            until then (`unused`), and scores are interpolated to the image.
        head: (map, train, keys) -> features, before the deepest map's scores; none if None.
        auxiliary_level: a map that is scored too in training, interpolated to the image; none if None.
        auxiliary_head: (map, train, keys) -> features, before those scores.
        upsampling: `transposed` convolutions, bilinear to begin with and learned (the paper keeps the last,
            `upsample_image`, as it is: freeze it), or `bilinear` interpolation.
        kernel: sides of the transposed convolutions' kernels, in strides.
        addition: whether scores of shallower maps are added, or these only say how large the steps of
            upsampling are.
        reduction: whether maps are scored, and scores upsampled and added; otherwise features are, and are
            scored at the end, for which maps have as many channels.
        deepest: stride of the deepest map.
    """

    num_classes: int
    backbone: Backbone
    skips: tuple[str, ...] = ("c5", "c4", "c3")
    used: int | None = None
    head: PixelHead | None = None
    auxiliary_level: str | None = None
    auxiliary_head: PixelHead | None = None
    upsampling: Literal["transposed", "bilinear"] = "transposed"
    kernel: int = 2
    addition: bool = True
    reduction: bool = True
    deepest: int = 32

    @property
    def multiple(self) -> int:
        """The sides of its images are multiples of this: interpolation takes any size."""
        return 1 if self.upsampling == "bilinear" else self.deepest

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the parts that wait for skips beyond `used`, for a stage to freeze.

        Where a dilated backbone's maps have one stride, there is no `upsample_` part between them.
        """
        if self.used is None or self.used >= len(self.skips):
            return ()
        waiting = self.skips[self.used :]
        scores = [f"score_{name}" for name in waiting if self.addition and self.reduction]
        upsampled = (*waiting, "image") if self.upsampling == "transposed" else ()
        return (*scores, *(f"upsample_{name}" for name in upsampled))

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> dict[str, Float[Array, "..."]]:
        """Scores each pixel.

        Args:
            x: normalized images.
            train: whether norms use this batch's statistics.
            keys: of each image, for dropout; None drops nothing.

        Returns:
            The backbone's maps by name, `score/<map>` [B, h, w, K] of each map before it is upsampled, and
            `logits` [B, H, W, K]; when training also `auxiliary` [B, H, W, K].
        """
        maps = self.backbone(x, train)
        outputs = dict(maps)
        total = None
        count = len(self.skips) if self.used is None or self.is_initializing() else self.used
        for i, name in enumerate(self.skips[:count]):
            features = maps[name]
            if i == 0 and self.head is not None:
                features = self.head(features, train, keys)
            if total is not None:
                total = self._upsampled(total, features, f"upsample_{name}")
            if total is None or self.addition:
                scores = self._score(features, name) if self.reduction else features
                outputs[f"score/{name}"] = scores
                total = scores if total is None else total + scores
        assert total is not None
        whole = count == len(self.skips)
        total = self._upsampled(total, x, "upsample_image") if whole else _resized(total, x)
        outputs["logits"] = total if self.reduction else self._score(total, "image")
        if self.auxiliary_level is not None and (train or self.is_initializing()):
            features = maps[self.auxiliary_level]
            if self.auxiliary_head is not None:
                features = self.auxiliary_head(features, train, keys)
            outputs["auxiliary"] = _resized(self._score(features, "auxiliary"), x)
        return outputs

    def _score(self, features: Float[Array, "b h w c"], name: str) -> Float[Array, "b h w k"]:
        """Logits of each location, by a 1x1 convolution."""
        # Zero to begin with: section 4.3 found random scores neither better nor faster.
        return Conv(self.num_classes, 1, kernel_init=nn.initializers.zeros, name=f"score_{name}")(features)

    def _upsampled(
        self, x: Float[Array, "b h w c"], like: Float[Array, "b hh ww _"], name: str
    ) -> Float[Array, "b hh ww c"]:
        """A map at the size of another, which is a multiple of its own unless it is interpolated."""
        if self.upsampling == "bilinear":
            return _resized(x, like)
        factor = like.shape[1] // x.shape[1]
        if factor == 1:
            return x
        size = self.kernel * factor
        layer = ConvTranspose(
            x.shape[-1],
            size,
            factor,
            padding=(size - factor) // 2,
            bias=False,
            kernel_init=bilinear_init(factor),
            name=name,
        )
        return layer(x)


def _resized(x: Float[Array, "b h w c"], like: Float[Array, "_b hh ww _c"]) -> Float[Array, "b hh ww c"]:
    """A map at the size of another, by bilinear interpolation."""
    return jax.image.resize(x, (x.shape[0], *like.shape[1:3], x.shape[-1]), "bilinear")
