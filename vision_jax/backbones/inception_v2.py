"""Inception v2: GoogLeNet with batch norm, 5x5 kernels as two of 3x3 (Ioffe and Szegedy 2015, figure 5)."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.backbones.inception import Branches, branch, shrinking
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.norms import NormKind
from vision_jax.layers.pooling import max_pool

# Channels of 1x1; 1x1 and 3x3; 1x1 and both 3x3; 1x1 after the pooling. Without the first and the last one
# the module halves the map.
_MODULES = {
    "3a": (64, (64, 64), (64, 96), 32),
    "3b": (64, (64, 96), (64, 96), 64),
    "3c": (0, (128, 160), (64, 96), 0),
    "4a": (224, (64, 96), (96, 128), 128),
    "4b": (192, (96, 128), (96, 128), 128),
    "4c": (160, (128, 160), (128, 160), 96),
    "4d": (96, (128, 192), (160, 192), 96),
    "4e": (0, (128, 192), (192, 256), 0),
    "5a": (352, (192, 320), (160, 224), 128),
    "5b": (352, (192, 320), (192, 224), 128),
}


class InceptionV2(nn.Module):
    """Inception v2 without its classifier.

    Attributes:
        norm: after each convolution.
        width: what the paper's channels are multiplied by, for a smaller network.
    """

    norm: NormKind = "batch"
    width: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c1` to `c5`, the last map of each stride 2 to 32."""
        conv = partial(ConvNorm, norm=self.norm, width=self.width)
        maps = {"c1": conv(64, 7, 2, name="conv1")(x, train)}
        x = conv(64, name="conv2")(max_pool(maps["c1"], 3, 2, padding=1), train)
        maps["c2"] = conv(192, 3, name="conv3")(x, train)
        x = max_pool(maps["c2"], 3, 2, padding=1)
        for name, (one, (few, three), (fewer, double), pooled) in _MODULES.items():
            if not one:
                maps[f"c{name[0]}"] = x
                branches = (
                    shrinking("three", (few, 1), (three, 3), padding=1),
                    shrinking("double", (fewer, 1), (double, 3), (double, 3), padding=1),
                )
            else:
                branches = (
                    branch("one", (one, 1)),
                    branch("three", (few, 1), (three, 3)),
                    branch("double", (fewer, 1), (double, 3), (double, 3)),
                )
            module = Branches(
                branches,
                pooled,
                self.norm,
                padding=0 if one else 1,
                of_maxima=name == "5b",
                width=self.width,
                name=f"inception{name}",
            )
            x = module(x, train)
        maps["c5"] = x
        return maps
