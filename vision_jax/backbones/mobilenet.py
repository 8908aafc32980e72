"""MobileNets, second and third generation (Sandler et al. 2018, table 2; Howard et al. 2019, tables 1 and 2).

An inverted residual widens its map by a 1x1 convolution, filters each channel by itself, and narrows it
again; the narrow maps are linear, and are what is added. The third generation weighs channels by
squeeze-and-excitation and takes x relu6(x + 3) / 6 for a ReLU in its deeper half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.layers.conv import Conv
from vision_jax.layers.depthwise import DepthwiseConv
from vision_jax.layers.norms import Norm, NormKind

Activation = Literal["relu", "relu6", "hard_swish"]


def activate(x: Float[Array, "*shape"], kind: Activation) -> Float[Array, "*shape"]:
    """The non-linearity of that name."""
    if kind == "relu":
        return nn.relu(x)
    return nn.relu6(x) if kind == "relu6" else nn.hard_swish(x)


class SqueezeExcite(nn.Module):
    """Weighs each channel by what all channels' means say (Hu, Shen and Sun 2018, section 3).

    Attributes:
        width: channels in between.
    """

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """The map, each channel times a weight in 0..1."""
        mean = x.mean((1, 2), keepdims=True)
        weight = Conv(x.shape[-1], 1, name="excite")(nn.relu(Conv(self.width, 1, name="squeeze")(mean)))
        return x * nn.hard_sigmoid(weight)


@dataclass(frozen=True)
class Residual:
    """What makes one inverted residual unlike another.

    Attributes:
        wide: channels of the filtered map; no widening where the input has as many.
        out: channels of the outcome.
        size: of the filters, in pixels.
        stride: of the filters, in pixels.
        excite: whether channels are weighed.
        activation: after the first two convolutions.
    """

    wide: int
    out: int
    size: int = 3
    stride: int = 1
    excite: bool = False
    activation: Activation = "relu6"


class InvertedResidual(nn.Module):
    """A block of either generation.

    Attributes:
        shape: which.
        norm: after each convolution.
        epsilon, momentum: of the norms.
    """

    shape: Residual
    norm: NormKind
    epsilon: float
    momentum: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool) -> Float[Array, "b hh ww o"]:
        """Feature maps; the input is added where they have its shape."""

        def norm(x: Array, name: str) -> Array:
            return Norm(self.norm, epsilon=self.epsilon, momentum=self.momentum, name=name)(x, train)

        shape, y = self.shape, x
        if shape.wide != x.shape[-1]:
            y = Conv(shape.wide, 1, bias=False, name="widen")(y)
            y = activate(norm(y, "widen_norm"), shape.activation)
        y = DepthwiseConv(shape.size, shape.stride, name="filter")(y)
        y = activate(norm(y, "filter_norm"), shape.activation)
        if shape.excite:
            y = SqueezeExcite(rounded_channels(shape.wide / 4), name="weigh")(y)
        y = norm(Conv(shape.out, 1, bias=False, name="narrow")(y), "narrow_norm")
        return x + y if shape.stride == 1 and x.shape[-1] == shape.out else y


class MobileNet(nn.Module):
    """A MobileNet without its classifier.

    Attributes:
        stem: channels of the first convolution.
        blocks: the inverted residuals.
        last: channels of the last 1x1 convolution.
        activation: of the first and the last convolution.
        norm: after each convolution.
        epsilon, momentum: of the norms.
    """

    stem: int
    blocks: tuple[Residual, ...]
    last: int
    activation: Activation = "relu6"
    norm: NormKind = "batch"
    epsilon: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c1` to `c5`, the last map of each stride 2 to 32; `c5` is the last of all."""

        def conv(x: Array, features: int, size: int, stride: int, name: str) -> Array:
            x = Conv(features, size, stride, bias=False, name=name)(x)
            norm = Norm(self.norm, epsilon=self.epsilon, momentum=self.momentum, name=f"{name}_norm")
            return activate(norm(x, train), self.activation)

        x = conv(x, self.stem, 3, 2, "stem")
        maps, level = {}, 1
        for i, shape in enumerate(self.blocks):
            if shape.stride == 2:
                maps[f"c{level}"] = x
                level += 1
            block = InvertedResidual(shape, self.norm, self.epsilon, self.momentum, name=f"block{i + 1}")
            x = block(x, train)
        maps[f"c{level}"] = conv(x, self.last, 1, 1, "last")
        return maps


def rounded_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of a divisor, at least that, and at least nine tenths of what was asked for."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


# (factor of widening, channels, blocks, stride of the first)
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(width: float = 1.0, norm: NormKind = "batch") -> MobileNet:
    """The second generation.

    Args:
        width: all channels are multiplied by it.
        norm: after each convolution.
    """
    blocks, before = [], rounded_channels(32 * width)
    for factor, channels, count, stride in _V2:
        for i in range(count):
            out = rounded_channels(channels * width)
            blocks.append(Residual(before * factor, out, stride=stride if i == 0 else 1))
            before = out
    return MobileNet(
        rounded_channels(32 * width), tuple(blocks), rounded_channels(1280 * max(1.0, width)), norm=norm
    )


# (size, wide, out, squeeze-and-excitation, hard swish, stride)
_V3 = {
    "large": (
        (3, 16, 16, False, False, 1), (3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1),
        (5, 72, 40, True, False, 2), (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1),
        (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1), (3, 184, 80, False, True, 1),
        (3, 184, 80, False, True, 1), (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1),
    ),
    "small": (
        (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
    ),
}  # fmt: skip


def mobilenet_v3(size: Literal["large", "small"], norm: NormKind = "batch") -> MobileNet:
    """The third generation.

    Args:
        size: which.
        norm: after each convolution.
    """
    blocks = tuple(
        Residual(wide, out, kernel, stride, excite, "hard_swish" if swish else "relu")
        for kernel, wide, out, excite, swish, stride in _V3[size]
    )
    return MobileNet(16, blocks, 6 * blocks[-1].out, "hard_swish", norm, epsilon=1e-3, momentum=0.99)
