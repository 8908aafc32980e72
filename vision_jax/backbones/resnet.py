"""Residual networks (He et al. 2016, table 1), with the stride on the 3x3 convolution of a bottleneck."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.layers.conv import Conv
from vision_jax.layers.norms import Norm, NormKind
from vision_jax.layers.pooling import max_pool_3x3

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]

STAGES: dict[ResNetName, tuple[int, ...]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or 1x1, 3x3, 1x1 as a bottleneck (figure 5).

    Attributes:
        features: channels inside; a bottleneck puts out four times as many.
        stride: of the first 3x3 convolution.
        bottleneck: which kind.
        norm: after each convolution.
        dilation: of the convolution that has the stride.
        dilation_after: of a plain block's second convolution.
    """

    features: int
    stride: int
    bottleneck: bool
    norm: NormKind
    dilation: int = 1
    dilation_after: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool) -> Float[Array, "b hh ww o"]:
        """Feature maps `stride` times smaller, with the input, or its linear map, added."""

        def conv(x: Array, features: int, size: int, stride: int, name: str, dilation: int = 1) -> Array:
            x = Conv(features, size, stride, bias=False, dilation=dilation, name=f"conv{name}")(x)
            return Norm(self.norm, name=f"norm{name}")(x, train)

        out = self.features * 4 if self.bottleneck else self.features
        if self.bottleneck:
            y = nn.relu(conv(x, self.features, 1, 1, "1"))
            y = nn.relu(conv(y, self.features, 3, self.stride, "2", self.dilation))
            y = conv(y, out, 1, 1, "3")
        else:
            y = nn.relu(conv(x, self.features, 3, self.stride, "1", self.dilation))
            y = conv(y, out, 3, 1, "2", self.dilation_after)
        if self.stride != 1 or x.shape[-1] != out:
            x = conv(x, out, 1, self.stride, "_shortcut")
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Attributes:
        stages: blocks in each stage; four in the paper, fewer for a shorter network.
        bottleneck: kind of block.
        norm: `batch`, `frozen` or `group`.
        width: channels of the first stage.
        remat: whether the backward pass computes each block again instead of keeping what is inside it (Chen
            et al. 2016, "Training deep nets with sublinear memory cost"): less memory, more time.
        output_stride: of the last map. Stages that would pass it keep their input's, and their convolutions
            are dilated instead, so that their receptive field is as large (Yu and Koltun 2016; Chen et al.
            2015).
    """

    stages: tuple[int, ...]
    bottleneck: bool
    norm: NormKind = "batch"
    width: int = 64
    remat: bool = False
    output_stride: int = 32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c2`, `c3`, `c4`, `c5`, one a stage, of strides 4, 8, 16, 32 at most."""
        block = nn.remat(Block, static_argnums=(2,)) if self.remat else Block
        x = Conv(self.width, 7, 2, bias=False, name="stem_conv")(x)
        x = nn.relu(Norm(self.norm, name="stem_norm")(x, train))
        x = max_pool_3x3(x)
        maps = {}
        reached, dilation = 4, 1
        for s, blocks in enumerate(self.stages):
            shrinks = s > 0 and 2 * reached <= self.output_stride
            reached *= 2 if shrinks else 1
            # Where a stride is left out, what comes after it is dilated.
            after = dilation if s == 0 or shrinks else 2 * dilation
            for b in range(blocks):
                stride, here = (2 if shrinks else 1, dilation) if b == 0 else (1, after)
                name = f"stage{s + 1}_block{b + 1}"
                settings = (self.width * 2**s, stride, self.bottleneck, self.norm, here, after)
                x = block(*settings, name=name)(x, train)
            dilation = after
            maps[f"c{s + 2}"] = x
        return maps


def resnet(name: ResNetName, norm: NormKind = "batch", stages: int = 4, remat: bool = False) -> ResNet:
    """The ResNets of the paper by their usual names.

    Args:
        name: with 18 or 34 layers of plain blocks, or 50 or more of bottlenecks.
        norm: after each convolution.
        stages: how many of the four; 3 where the last one works on regions.
        remat: as in `ResNet`.
    """
    return ResNet(STAGES[name][:stages], is_bottleneck(name), norm, remat=remat)


def is_bottleneck(name: ResNetName) -> bool:
    """Whether a network has bottleneck blocks."""
    return name not in ("resnet18", "resnet34")
