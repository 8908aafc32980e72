"""U-Net (Ronneberger, Fischer and Brox 2015), the modern reference among encoder-decoders.

The decoder sees the encoder's map of each resolution beside its own (concatenated, not added). As is usual
since, convolutions keep a map's size and have batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision_jax.layers import Conv
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.conv_transpose import ConvTranspose2x2
from vision_jax.layers.norms import NormKind
from vision_jax.layers.pooling import max_pool_2x2
from vision_jax.layers.upsampling import Upsample, Upsampling, double_bilinear
from vision_jax.models.segmentation.encoder_decoder import Convolutions
from vision_jax.types import Count, Lengths


class UNet(CheckedModule):
    """An encoder of convolutions and pooling; a decoder that sees the encoder's maps beside its own.

    Attributes:
        num_classes: K; there is no background class, void pixels have no label.
        widths: channels of each stage, from the finest grid down.
        blocks: convolutions of each stage of the encoder and of the decoder.
        upsampling: 2x2 transposed convolutions of stride 2, as the paper's, or another of `Upsample`'s but
            max unpooling, as it does not keep where the maxima lay.
        stem: 1 for the paper's finest grid, the image's own; 2 or 4 for a first convolution of that stride,
            whose classes are scored there and the scores interpolated: as many times fewer locations.
        norm: after each convolution.
    """

    num_classes: Count
    widths: Annotated[Sequence[Count], Lengths()] = (64, 128, 256, 512, 1024)
    blocks: Count = 2
    upsampling: Upsampling = "transposed"
    stem: Literal[1, 2, 4] = 1
    norm: NormKind = "batch"

    @property
    def multiple(self) -> int:
        """The sides of its images are multiples of this."""
        return self.stem * 2 ** (len(self.widths) - 1)

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
            `encoder/<stride>` and `decoder/<stride>` [B, H / stride, W / stride, C], and `logits`
            [B, H, W, K].
        """
        maps = {}
        if self.stem > 1:
            size, padding = 2 * self.stem, self.stem // 2
            stem = ConvNorm(
                self.widths[0], size, self.stem, padding, norm=self.norm, epsilon=1e-5, name="stem"
            )
            x = stem(x, train)
        for s, features in enumerate(self.widths):
            x = x if s == 0 else max_pool_2x2(x)
            x = Convolutions(features, self.blocks, 3, self.norm, name=f"encoder{s + 1}")(x, train)
            maps[f"encoder/{self.stem * 2**s}"] = x
        for s in reversed(range(len(self.widths) - 1)):
            if self.upsampling == "transposed":
                x = ConvTranspose2x2(self.widths[s], name=f"upsample{s + 1}")(x)
            else:
                x = Upsample(self.upsampling, name=f"upsample{s + 1}")(x)
            x = jnp.concatenate([maps[f"encoder/{self.stem * 2**s}"], x], axis=-1)
            x = Convolutions(self.widths[s], self.blocks, 3, self.norm, name=f"decoder{s + 1}")(x, train)
            maps[f"decoder/{self.stem * 2**s}"] = x
        logits = Conv(self.num_classes, size=1, name="score")(x)
        for _ in range(self.stem.bit_length() - 1):
            logits = double_bilinear(logits)
        maps["logits"] = logits
        return maps
