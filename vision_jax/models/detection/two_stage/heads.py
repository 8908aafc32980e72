"""What region-based detectors do with a pooled region."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.backbones.resnet import STAGES, Block, ResNetName, is_bottleneck
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv import Dense
from vision_jax.layers.norms import NormKind
from vision_jax.types import Count


class MLPHead(CheckedModule):
    """Two fully connected layers (Lin et al. 2017, section 4.2).

    Attributes:
        features: of both layers.
    """

    features: Count = 1024

    @nn.compact
    def __call__(self, pooled: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n f"]:
        """Features of each region; the same when training."""
        x = pooled.reshape(pooled.shape[0], -1)
        x = nn.relu(Dense(self.features, name="fc6")(x))
        return nn.relu(Dense(self.features, name="fc7")(x))


class ResidualHead(nn.Module):
    """The last stage of a residual network, on each region by itself (He et al. 2016, appendix A).

    Attributes:
        blocks: residual blocks, the first of stride 2.
        features: channels inside a block.
        bottleneck: kind of block; a bottleneck puts out four times `features`.
        norm: after each convolution.
    """

    blocks: int = 3
    features: int = 512
    bottleneck: bool = True
    norm: NormKind = "batch"

    @nn.compact
    def __call__(self, pooled: Float[Array, "n h w c"], train: bool = False) -> Float[Array, "n hh ww f"]:
        """Feature maps of each region, of half its rows and columns."""
        x = pooled
        for b in range(self.blocks):
            block = Block(self.features, 2 if b == 0 else 1, self.bottleneck, self.norm, name=f"block{b + 1}")
            x = block(x, train)
        return x


def residual_head(name: ResNetName, norm: NormKind = "batch") -> ResidualHead:
    """The fourth stage of a ResNet as a head, for backbones of the first three.

    Args:
        name: which ResNet.
        norm: after each convolution.
    """
    return ResidualHead(STAGES[name][3], bottleneck=is_bottleneck(name), norm=norm)


class BoxPredictor(nn.Module):
    """Class scores and box offsets from a region's features.

    Attributes:
        num_classes: K.
        class_agnostic: one box for all classes instead of one for each.
    """

    num_classes: int
    class_agnostic: bool

    @nn.compact
    def __call__(
        self, features: Float[Array, "n *_hwf"]
    ) -> tuple[Float[Array, "n {self.num_classes+1}"], Float[Array, "n _k 4"]]:
        """Class logits, the last "no object", and coded offsets for each class or one for all.

        Args:
            features: of each region; averaged over locations if they are maps.
        """
        x = features.mean((1, 2)) if features.ndim == 4 else features
        logits = Dense(self.num_classes + 1, name="classes")(x)
        boxes = Dense(4 * (1 if self.class_agnostic else self.num_classes), name="boxes")(x)
        return logits, boxes.reshape(len(x), -1, 4)


class SingleLevel(nn.Module):
    """One of a backbone's maps, as it is: the neck of detectors without a pyramid.

    Attributes:
        name_of_map: `c4` (stride 16) or `c5` (stride 32), say.
    """

    name_of_map: str = "c4"

    def __call__(
        self, maps: Mapping[str, Float[Array, "b _h _w _c"]], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """The one map, by its name."""
        return {self.name_of_map: maps[self.name_of_map]}
