"""Inception v3 (Szegedy et al. 2016, table 1): large kernels taken apart into small ones, rows, columns."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.norms import NormKind
from vision_jax.layers.pooling import average_pool, max_pool

# A branch through a module: (name, channels, size, stride, padding) of each convolution, one after the other.
Branch = tuple[tuple[str, int, int | tuple[int, int], int, int | None], ...]


def branch(name: str, *convolutions: tuple[int, int | tuple[int, int]]) -> Branch:
    """Convolutions of stride 1 that keep the size: (channels, kernel's size) of each."""
    if len(convolutions) == 1:
        return ((name, *convolutions[0], 1, None),)
    return tuple((f"{name}_{i + 1}", width, size, 1, None) for i, (width, size) in enumerate(convolutions))


def shrinking(
    name: str, *convolutions: tuple[int, int | tuple[int, int]], stride: int = 2, padding: int = 0
) -> Branch:
    """The same, whose last one has that stride and that border."""
    *before, (last, width, size, _, _) = branch(name, *convolutions)
    return (*before, (last, width, size, stride, padding))


def through(
    x: Float[Array, "b h w i"], convolutions: Branch, norm: NormKind, train: bool, width: float = 1.0
) -> Float[Array, "b hh ww o"]:
    """A map at the end of a branch; to be called inside a module, whose parameters it takes.

    Args:
        x: feature maps.
        convolutions: the branch.
        norm: after each.
        train: handed to the norms.
        width: what channels are multiplied by.
    """
    for name, features, size, stride, padding in convolutions:
        x = ConvNorm(features, size, stride, padding, norm, width=width, name=name)(x, train)
    return x


class Branches(nn.Module):
    """Branches side by side, whose channels are joined.

    Attributes:
        branches: the convolutions of each.
        pooled: channels of the 1x1 convolution after an average of 3x3; 0 takes the maximum of every second
            3x3 instead.
        norm: after each convolution.
        padding: of those maxima.
        of_maxima: whether the 1x1 convolution is after a maximum of 3x3, not an average.
        width: what channels are multiplied by.
    """

    branches: tuple[Branch, ...]
    pooled: int
    norm: NormKind
    padding: int = 0
    of_maxima: bool = False
    width: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool) -> Float[Array, "b hh ww o"]:
        """Feature maps: the branches' channels, those of the pooling last."""
        ends = [through(x, convolutions, self.norm, train, self.width) for convolutions in self.branches]
        if self.pooled:
            around = max_pool(x, 3, 1, 1) if self.of_maxima else average_pool(x, 3, 1, 1)
            ends.append(ConvNorm(self.pooled, norm=self.norm, width=self.width, name="pool")(around, train))
        else:
            ends.append(max_pool(x, 3, 2, self.padding))
        return jnp.concatenate(ends, axis=-1)


class ExpandedInception(nn.Module):
    """The module of the coarsest maps, whose branches end in a row and a column side by side (figure 7).

    Attributes:
        norm: after each convolution.
        width: what channels are multiplied by.
    """

    norm: NormKind
    width: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool) -> Float[Array, "b h w o"]:
        """Feature maps of the same size."""

        def conv(x: Array, features: int, size: int | tuple[int, int], name: str) -> Array:
            return ConvNorm(features, size, norm=self.norm, width=self.width, name=name)(x, train)

        def both(x: Array, name: str) -> list[Array]:
            return [conv(x, 384, (1, 3), f"{name}a"), conv(x, 384, (3, 1), f"{name}b")]

        double = conv(conv(x, 448, 1, "double_1"), 384, 3, "double_2")
        return jnp.concatenate(
            [
                conv(x, 320, 1, "one"),
                *both(conv(x, 384, 1, "three_1"), "three_2"),
                *both(double, "double_3"),
                conv(average_pool(x, 3, 1, 1), 192, 1, "pool"),
            ],
            axis=-1,
        )


class InceptionV3(nn.Module):
    """Inception v3 without its classifiers; images have at least 75 pixels a side, 299 in the paper.

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
        joined = partial(Branches, norm=self.norm, width=self.width)
        maps = {}
        x = conv(32, 3, 2, 0, name="conv1")(x, train)
        x = conv(32, 3, 1, 0, name="conv2")(x, train)
        maps["c1"] = conv(64, 3, name="conv3")(x, train)
        x = conv(80, name="conv4")(max_pool(maps["c1"], 3, 2), train)
        maps["c2"] = conv(192, 3, 1, 0, name="conv5")(x, train)
        x = max_pool(maps["c2"], 3, 2)
        for name, pooled in (("5b", 32), ("5c", 64), ("5d", 64)):
            branches = (
                branch("one", (64, 1)),
                branch("five", (48, 1), (64, 5)),
                branch("double", (64, 1), (96, 3), (96, 3)),
            )
            x = joined(branches, pooled, name=f"mixed{name}")(x, train)
        maps["c3"] = x
        branches = (shrinking("three", (384, 3)), shrinking("double", (64, 1), (96, 3), (96, 3)))
        x = joined(branches, 0, name="mixed6a")(x, train)
        for name, few in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            row, column = (1, 7), (7, 1)
            branches = (
                branch("one", (192, 1)),
                branch("seven", (few, 1), (few, row), (192, column)),
                branch("double", (few, 1), (few, column), (few, row), (few, column), (192, row)),
            )
            x = joined(branches, 192, name=f"mixed{name}")(x, train)
        maps["c4"] = x
        branches = (
            shrinking("three", (192, 1), (320, 3)),
            shrinking("seven", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)),
        )
        x = joined(branches, 0, name="mixed7a")(x, train)
        for name in ("7b", "7c"):
            x = ExpandedInception(self.norm, self.width, name=f"mixed{name}")(x, train)
        maps["c5"] = x
        return maps
