"""Inception v4 and the Inception-ResNets (Szegedy, Ioffe, Vanhoucke and Alemi 2017, figures 3 to 19).

The residual networks join the branches of a module by a linear 1x1 convolution and add them to its input,
scaled down (section 3.3); at equal cost they learn faster.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.backbones.inception import Branch, Branches, branch, shrinking, through
from vision_jax.layers.conv import Conv
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.norms import NormKind
from vision_jax.layers.pooling import average_pool, max_pool

_ROW, _COLUMN = (1, 7), (7, 1)
_SHORT_ROW, _SHORT_COLUMN = (1, 3), (3, 1)


def _first_maps(
    x: Float[Array, "b h w 3"], norm: NormKind, train: bool, width: float
) -> Float[Array, "b _h _w _c"]:
    """What both stems begin with: from images to maps of stride 2 in 64 channels."""
    begin = (("conv1", 32, 3, 2, 0), ("conv2", 32, 3, 1, 0), ("conv3", 64, 3, 1, None))
    return through(x, begin, norm, train, width)


class Stem(nn.Module):
    """From images to maps of stride 8 in 384 channels (figure 3).

    Attributes:
        norm: after each convolution.
        width: what channels are multiplied by.
    """

    norm: NormKind
    width: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool
    ) -> tuple[Float[Array, "b _h1 _w1 _c1"], Float[Array, "b _h2 _w2 _c2"], Float[Array, "b _h3 _w3 _c3"]]:
        """The last maps of strides 2, 4 and 8."""
        conv = partial(ConvNorm, norm=self.norm, width=self.width)
        first = _first_maps(x, self.norm, train, self.width)
        x = jnp.concatenate([max_pool(first, 3, 2), conv(96, 3, 2, 0, name="conv4")(first, train)], axis=-1)
        short = shrinking("short", (64, 1), (96, 3), stride=1)
        long = shrinking("long", (64, 1), (64, _COLUMN), (64, _ROW), (96, 3), stride=1)
        ends = [through(x, w, self.norm, train, self.width) for w in (short, long)]
        second = jnp.concatenate(ends, axis=-1)
        halved = conv(192, 3, 2, 0, name="conv5")(second, train)
        return first, second, jnp.concatenate([halved, max_pool(second, 3, 2)], axis=-1)


class SmallStem(nn.Module):
    """From images to maps of stride 8 in 256 channels, for Inception-ResNet v1 (figure 14).

    Attributes:
        norm: after each convolution.
        width: what channels are multiplied by.
    """

    norm: NormKind
    width: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool
    ) -> tuple[Float[Array, "b _h1 _w1 _c1"], Float[Array, "b _h2 _w2 _c2"], Float[Array, "b _h3 _w3 _c3"]]:
        """The last maps of strides 2, 4 and 8."""
        first = _first_maps(x, self.norm, train, self.width)
        middle = (("conv4", 80, 1, 1, None), ("conv5", 192, 3, 1, 0))
        second = through(max_pool(first, 3, 2), middle, self.norm, train, self.width)
        return first, second, through(second, (("conv6", 256, 3, 2, 0),), self.norm, train, self.width)


class InceptionC(nn.Module):
    """Inception v4's module of the coarsest maps, whose branches end in a row and a column (figure 6).

    Attributes:
        norm: after each convolution.
        width: what channels are multiplied by.
    """

    norm: NormKind
    width: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool) -> Float[Array, "b h w _o"]:
        """Feature maps of the same size."""

        def conv(x: Array, features: int, size: int | tuple[int, int], name: str) -> Array:
            return ConvNorm(features, size, norm=self.norm, width=self.width, name=name)(x, train)

        def both(x: Array, name: str) -> list[Array]:
            return [conv(x, 256, _SHORT_ROW, f"{name}_row"), conv(x, 256, _SHORT_COLUMN, f"{name}_column")]

        long = branch("long", (384, 1), (448, _SHORT_ROW), (512, _SHORT_COLUMN))
        return jnp.concatenate(
            [
                conv(average_pool(x, 3, 1, 1), 256, 1, "pool"),
                conv(x, 256, 1, "one"),
                *both(conv(x, 384, 1, "short"), "short"),
                *both(through(x, long, self.norm, train, self.width), "long"),
            ],
            axis=-1,
        )


class InceptionV4(nn.Module):
    """Inception v4 without its classifier; images have at least 75 pixels a side, 299 in the paper.

    Attributes:
        blocks: modules of each of the three grids.
        norm: after each convolution.
        width: what the paper's channels are multiplied by, for a smaller network.
    """

    blocks: tuple[int, int, int] = (4, 7, 3)
    norm: NormKind = "batch"
    width: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c1` to `c5`, the last map of each stride 2 to 32."""
        first, second, x = Stem(self.norm, self.width, name="stem")(x, train)
        maps = {"c1": first, "c2": second}
        joined = partial(Branches, norm=self.norm, width=self.width)
        branches = (
            branch("one", (96, 1)),
            branch("two", (64, 1), (96, 3)),
            branch("three", (64, 1), (96, 3), (96, 3)),
        )
        for i in range(self.blocks[0]):
            x = joined(branches, 96, name=f"a{i + 1}")(x, train)
        maps["c3"] = x
        branches = (shrinking("two", (384, 3)), shrinking("three", (192, 1), (224, 3), (256, 3)))
        x = joined(branches, 0, name="reduce_a")(x, train)
        branches = (
            branch("one", (384, 1)),
            branch("two", (192, 1), (224, _ROW), (256, _COLUMN)),
            branch("three", (192, 1), (192, _ROW), (224, _COLUMN), (224, _ROW), (256, _COLUMN)),
        )
        for i in range(self.blocks[1]):
            x = joined(branches, 128, name=f"b{i + 1}")(x, train)
        maps["c4"] = x
        branches = (
            shrinking("two", (192, 1), (192, 3)),
            shrinking("three", (256, 1), (256, _ROW), (320, _COLUMN), (320, 3)),
        )
        x = joined(branches, 0, name="reduce_b")(x, train)
        for i in range(self.blocks[2]):
            x = InceptionC(self.norm, self.width, name=f"c{i + 1}")(x, train)
        maps["c5"] = x
        return maps


class ResidualBranches(nn.Module):
    """Branches side by side, joined by a linear 1x1 convolution, scaled and added to the input.

    Attributes:
        branches: the convolutions of each.
        scale: of what is added.
        norm: after each convolution but the linear one.
        width: what channels are multiplied by.
    """

    branches: tuple[Branch, ...]
    scale: float
    norm: NormKind
    width: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """The input, with what the branches found added, after a ReLU."""
        ends = jnp.concatenate([through(x, w, self.norm, train, self.width) for w in self.branches], axis=-1)
        return nn.relu(x + self.scale * Conv(x.shape[-1], 1, name="join")(ends))


_RESIDUALS = {
    "v1": {
        "a": (
            branch("one", (32, 1)),
            branch("two", (32, 1), (32, 3)),
            branch("three", (32, 1), (32, 3), (32, 3)),
        ),
        "reduce_a": (shrinking("two", (384, 3)), shrinking("three", (192, 1), (192, 3), (256, 3))),
        "b": (branch("one", (128, 1)), branch("two", (128, 1), (128, _ROW), (128, _COLUMN))),
        "reduce_b": (
            shrinking("two", (256, 1), (384, 3)),
            shrinking("three", (256, 1), (256, 3)),
            shrinking("four", (256, 1), (256, 3), (256, 3)),
        ),
        "c": (branch("one", (192, 1)), branch("two", (192, 1), (192, _SHORT_ROW), (192, _SHORT_COLUMN))),
    },
    "v2": {
        "a": (
            branch("one", (32, 1)),
            branch("two", (32, 1), (32, 3)),
            branch("three", (32, 1), (48, 3), (64, 3)),
        ),
        "reduce_a": (shrinking("two", (384, 3)), shrinking("three", (256, 1), (256, 3), (384, 3))),
        "b": (branch("one", (192, 1)), branch("two", (128, 1), (160, _ROW), (192, _COLUMN))),
        "reduce_b": (
            shrinking("two", (256, 1), (384, 3)),
            shrinking("three", (256, 1), (288, 3)),
            shrinking("four", (256, 1), (288, 3), (320, 3)),
        ),
        "c": (branch("one", (192, 1)), branch("two", (192, 1), (224, _SHORT_ROW), (256, _SHORT_COLUMN))),
    },
}


class InceptionResNet(nn.Module):
    """An Inception-ResNet without its classifier; images have at least 75 pixels a side, 299 in the paper.

    Attributes:
        version: v1 costs as much as Inception v3, v2 as much as v4.
        blocks: modules of each of the three grids.
        scale: of what a module adds; 0.1 to 0.3 in the paper.
        norm: after each convolution but the linear ones.
        width: what the paper's channels are multiplied by, for a smaller network.
    """

    version: Literal["v1", "v2"] = "v2"
    blocks: tuple[int, int, int] = (5, 10, 5)
    scale: float = 0.17
    norm: NormKind = "batch"
    width: float = 1.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c1` to `c5`, the last map of each stride 2 to 32."""
        stem = SmallStem if self.version == "v1" else Stem
        first, second, x = stem(self.norm, self.width, name="stem")(x, train)
        maps, branches = {"c1": first, "c2": second}, _RESIDUALS[self.version]
        residual = partial(ResidualBranches, scale=self.scale, norm=self.norm, width=self.width)
        for grid, (letter, count) in enumerate(zip("abc", self.blocks, strict=True)):
            for i in range(count):
                x = residual(branches[letter], name=f"{letter}{i + 1}")(x, train)
            maps[f"c{grid + 3}"] = x
            if letter != "c":
                name = f"reduce_{letter}"
                x = Branches(branches[name], 0, self.norm, width=self.width, name=name)(x, train)
        return maps
