"""Encoders of max pooling, with decoders of any of the literature's upsamplers.

Convolutions at full resolution are expensive; downsampling makes them cheap and their receptive field large,
and a decoder brings the scores back to full resolution. How it does is what papers differ in: interpolation,
transposed convolutions (Long, Shelhamer and Darrell 2015), or max unpooling, which remembers where each
maximum lay (SegNet: Badrinarayanan, Kendall and Cipolla 2017, whose table 1 compares them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import flax.linen as nn
from jaxtyping import Array, Float, Int, Key

from vision_jax.layers import Conv
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.depthwise import DepthwiseConv
from vision_jax.layers.norms import Norm, NormKind
from vision_jax.layers.upsampling import Upsample, Upsampling, halved
from vision_jax.types import Count, Lengths

Decoder = Literal["full", "single_channel", "none"]


class Convolutions(nn.Module):
    """Some convolutions of one size, each with its norm and ReLU.

    Attributes:
        features: output channels.
        count: how many.
        size: of the kernels, in pixels.
        norm: which.
    """

    features: int
    count: int = 2
    size: int = 3
    norm: NormKind = "batch"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool = False) -> Float[Array, "b h w o"]:
        """Maps of the same size; `train`: whether batch norm uses this batch's statistics."""
        for i in range(self.count):
            layer = ConvNorm(self.features, self.size, norm=self.norm, epsilon=1e-5, name=f"conv{i + 1}")
            x = layer(x, train)
        return x


def encoded(
    x: Float[Array, "b h w i"],
    widths: Sequence[int],
    blocks: Sequence[int],
    size: int,
    norm: NormKind,
    train: bool,
) -> tuple[dict[str, Float[Array, "..."]], list[Int[Array, "..."]]]:
    """Stages of convolutions, each followed by 2x2 max pooling; called in a module's compact method.

    Args:
        x: normalized images.
        widths: channels of each stage.
        blocks: convolutions of each stage.
        size: of the kernels, in pixels.
        norm: after each convolution.
        train: whether batch norm uses this batch's statistics.

    Returns:
        `encoder/<stride>` before each pooling and `bottom` after the last; and for each stage where in its
        map each maximum lay (`halved`).
    """
    maps, indices = {}, []
    for s, (features, count) in enumerate(zip(widths, blocks, strict=True)):
        x = Convolutions(features, count, size, norm, name=f"encoder{s + 1}")(x, train)
        maps[f"encoder/{2**s}"] = x
        x, argmax = halved(x)
        indices.append(argmax)
    return {**maps, "bottom": x}, indices


class EncoderDecoder(CheckedModule):
    """Stages of convolutions and pooling, and as many of upsampling and convolutions, mirrored.

    Attributes:
        num_classes: K; there is no background class, void pixels have no label.
        widths: channels of each stage, from full resolution down.
        blocks: convolutions of each stage; the same number for all if one is given.
        size: of the kernels, in pixels.
        upsampling: how the decoder doubles a map's sides.
        decoder: what follows an upsampling: `full` convolutions; `single_channel` ones, each of one map alone
            (SegNet's SingleChannelDecoder); or nothing, in which case classes are scored at the bottom and
            the scores upsampled (its Bilinear-Interpolation).
        addition: whether the encoder's map of the same resolution is added to what a stage's convolutions
            give (its EncoderAddition).
        decoder_relu: whether the decoder's convolutions end in a ReLU; SegNet-Basic's do not.
        norm: after each convolution.
    """

    num_classes: Count
    widths: Annotated[Sequence[Count], Lengths()] = (32, 64, 128)
    blocks: int | Sequence[int] = 2
    size: Count = 3
    upsampling: Upsampling = "bilinear"
    decoder: Decoder = "full"
    addition: bool = False
    decoder_relu: bool = True
    norm: NormKind = "batch"

    @property
    def multiple(self) -> int:
        """The sides of its images are multiples of this."""
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> dict[str, Float[Array, "..."]]:
        """Scores each pixel.

        Args:
            x: normalized images.
            train: whether batch norm uses this batch's statistics.
            keys: not needed: nothing is random.

        Returns:
            `encoder/<stride>` [B, H / stride, W / stride, C] before each pooling, `bottom` after the last,
            `decoder/<stride>`, and `logits` [B, H, W, K].

        Raises:
            ValueError: settings that do not go together.
        """
        counts = [self.blocks] * len(self.widths) if isinstance(self.blocks, int) else list(self.blocks)
        self._check()
        maps, indices = encoded(x, self.widths, counts, self.size, self.norm, train)
        x = maps["bottom"]
        if self.decoder == "none":
            x = Conv(self.num_classes, size=1, name="score")(x)
        for s in reversed(range(len(self.widths))):
            argmax = indices[s] if self.upsampling == "max_unpooling" else None
            x = Upsample(self.upsampling, name=f"upsample{s + 1}")(x, argmax)
            if self.decoder != "none":
                x = self._decoded(x, s, counts[s], train)
                x = x + maps[f"encoder/{2**s}"] if self.addition else x
                maps[f"decoder/{2**s}"] = x
        maps["logits"] = x if self.decoder == "none" else Conv(self.num_classes, size=1, name="score")(x)
        return maps

    def _check(self) -> None:
        """Raises a ValueError where settings do not go together."""
        if self.decoder == "none" and self.upsampling == "max_unpooling":
            raise ValueError("scores have no indices of maxima: without a decoder, upsample in another way")
        if self.decoder == "none" and self.addition:
            raise ValueError("without a decoder there is nothing to which the encoder's maps could be added")
        if (self.decoder == "single_channel" or self.addition) and len(set(self.widths)) > 1:
            raise ValueError("kernels of single channels, and addition, need stages of one width")

    def _decoded(
        self, x: Float[Array, "b h w i"], s: int, count: int, train: bool
    ) -> Float[Array, "b h w _o"]:
        """The convolutions of a decoder's stage; the last gives the next upsampling its channels.

        Args:
            x: upsampled maps.
            s: which stage, 0 at full resolution.
            count: of the convolutions.
            train: whether batch norm uses this batch's statistics.
        """
        for i in range(count):
            name = f"decoder{s + 1}_conv{i + 1}"
            if self.decoder == "single_channel":
                x = Norm(self.norm, name=f"{name}_norm")(DepthwiseConv(self.size, name=name)(x), train)
                x = nn.relu(x) if self.decoder_relu else x
                continue
            features = self.widths[max(s - 1, 0)] if i + 1 == count else self.widths[s]
            layer = ConvNorm(
                features, self.size, norm=self.norm, epsilon=1e-5, activate=self.decoder_relu, name=name
            )
            x = layer(x, train)
        return x
