"""GoogLeNet, the first Inception network (Szegedy et al. 2015, table 1), here with norms."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.norms import NormKind
from vision_jax.layers.pooling import max_pool

# Channels of 1x1; 1x1 and 3x3; 1x1 and the larger one; 1x1 after the pooling (table 1).
_Widths = tuple[int, tuple[int, int], tuple[int, int], int]
MODULES: dict[str, _Widths] = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}


class Inception(nn.Module):
    """Four branches side by side, whose channels are joined (figure 2b).

    Attributes:
        widths: channels of each branch.
        larger: size of the third branch's kernel; 5 in the paper, 3 in torchvision.
        norm: after each convolution.
        width: what channels are multiplied by.
    """

    widths: _Widths
    larger: int
    norm: NormKind
    width: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool) -> Float[Array, "b h w o"]:
        """Feature maps of the same size: the branches' channels in the order of `widths`."""
        conv = partial(ConvNorm, norm=self.norm, width=self.width)
        one, (few, three), (fewer, more), pooled = self.widths
        return jnp.concatenate(
            [
                conv(one, name="branch1")(x, train),
                conv(three, 3, name="branch2_2")(conv(few, name="branch2_1")(x, train), train),
                conv(more, self.larger, name="branch3_2")(conv(fewer, name="branch3_1")(x, train), train),
                conv(pooled, name="branch4")(max_pool(x, 3, 1, padding=1), train),
            ],
            axis=-1,
        )


class GoogLeNet(nn.Module):
    """GoogLeNet without its classifiers.

    Attributes:
        larger: size of the kernels that are larger than 3x3 in the paper; torchvision has 3.
        norm: after each convolution.
        width: what the paper's channels are multiplied by, for a smaller network.
    """

    larger: int = 5
    norm: NormKind = "batch"
    width: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c1` to `c5`, the last map of each stride 2 to 32, and `4a` and `4d`, which
        the auxiliary classifiers see."""
        conv = partial(ConvNorm, norm=self.norm, width=self.width)
        pool = partial(max_pool, size=3, stride=2, ceil=True)
        maps = {"c1": conv(64, 7, 2, name="conv1")(x, train)}
        x = conv(64, name="conv2")(pool(maps["c1"]), train)
        maps["c2"] = conv(192, 3, name="conv3")(x, train)
        for level, names in (("3", "ab"), ("4", "abcde"), ("5", "ab")):
            before = maps[f"c{int(level) - 1}"]
            x = max_pool(before, 2, 2, ceil=True) if level == "5" else pool(before)
            for name in (f"{level}{letter}" for letter in names):
                module = Inception(MODULES[name], self.larger, self.norm, self.width, name=f"inception{name}")
                x = module(x, train)
                if name in ("4a", "4d"):
                    maps[name] = x
            maps[f"c{level}"] = x
        return maps
