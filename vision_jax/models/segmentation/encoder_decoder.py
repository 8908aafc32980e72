"""Down by max pooling, up again by any of the literature's upsamplers.

Convolutions at full resolution are dear; downsampling makes them cheap and lets them see far, and a decoder
brings the scores back to full resolution. How it does is what papers differ in: interpolation, transposed
convolutions (Long, Shelhamer and Darrell 2015), or max unpooling, which remembers where each maximum lay
(SegNet: Badrinarayanan, Kendall and Cipolla 2017, whose table 1 compares them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
from jaxtyping import Array, Float, Key

from vision_jax.layers import Conv
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.depthwise import DepthwiseConv
from vision_jax.layers.norms import Norm, NormKind
from vision_jax.layers.upsampling import Upsample, Upsampling, halved

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
        for i in range(self.count):
            layer = ConvNorm(self.features, self.size, norm=self.norm, epsilon=1e-5, name=f"conv{i + 1}")
            x = layer(x, train)
        return x


class EncoderDecoder(nn.Module):
    """Stages of convolutions and pooling, and as many of upsampling and convolutions, mirrored.

    Attributes:
        num_classes: K; there is no background class, void pixels have no label.
        widths: channels of each stage, from full resolution down.
        blocks: convolutions of each stage; the same number for all if one is given.
        size: of the kernels, in pixels.
        upsampling: how a map doubles its sides on the way up.
        decoder: what follows an upsampling: `full` convolutions; `single_channel` ones, each of one map alone
            (SegNet's SingleChannelDecoder); or nothing, in which case classes are scored at the bottom and
            the scores upsampled (its Bilinear-Interpolation).
        addition: whether the encoder's map of the same resolution is added after an upsampling (its
            EncoderAddition).
        decoder_relu: whether the decoder's convolutions end in a ReLU; SegNet-Basic's do not.
        norm: after each convolution.
    """

    num_classes: int
    widths: Sequence[int] = (32, 64, 128)
    blocks: int | Sequence[int] = 2
    size: int = 3
    upsampling: Upsampling = "bilinear"
    decoder: Decoder = "full"
    addition: bool = False
    decoder_relu: bool = True
    norm: NormKind = "batch"

    @property
    def stride(self) -> int:
        """The sides of its images are multiples of this."""
        return 2 ** len(self.widths)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> dict[str, Float[Array, "..."]]:
        """Scores each pixel.

        Args:
            x: normalised images.
            train: whether batch norm uses this batch's statistics.
            keys: not needed, it draws nothing.

        Returns:
            `encoder/<stride>` [B, H / stride, W / stride, C] before each pooling, `bottom` after the last,
            `decoder/<stride>`, and `logits` [B, H, W, K].
        """
        counts = [self.blocks] * len(self.widths) if isinstance(self.blocks, int) else list(self.blocks)
        maps = {}
        places = []
        for s, (features, count) in enumerate(zip(self.widths, counts, strict=True)):
            x = Convolutions(features, count, self.size, self.norm, name=f"encoder{s + 1}")(x, train)
            maps[f"encoder/{2**s}"] = x
            x, argmax = halved(x)
            places.append(argmax)
        maps["bottom"] = x
        if self.decoder == "none":
            x = Conv(self.num_classes, size=1, name="score")(x)
        for s in reversed(range(len(self.widths))):
            argmax = places[s] if self.upsampling == "max_unpooling" else None
            x = Upsample(self.upsampling, name=f"upsample{s + 1}")(x, argmax)
            if self.decoder != "none":
                if self.addition:
                    x = x + maps[f"encoder/{2**s}"]
                x = self._decoded(x, s, counts[s], train)
                maps[f"decoder/{2**s}"] = x
        maps["logits"] = x if self.decoder == "none" else Conv(self.num_classes, size=1, name="score")(x)
        return maps

    def _decoded(self, x: Array, s: int, count: int, train: bool) -> Array:
        """The convolutions of a decoder's stage; the last gives the next upsampling its channels."""
        for i in range(count):
            features = self.widths[max(s - 1, 0)] if i + 1 == count else self.widths[s]
            name = f"decoder{s + 1}_conv{i + 1}"
            if self.decoder == "single_channel":
                x = DepthwiseConv(self.size, name=name)(x)
                if features != x.shape[-1]:
                    raise ValueError("a decoder of single channels needs stages of one width")
            else:
                x = Conv(features, self.size, bias=False, name=name)(x)
            x = Norm(self.norm, name=f"decoder{s + 1}_norm{i + 1}")(x, train)
            x = jax.nn.relu(x) if self.decoder_relu else x
        return x
