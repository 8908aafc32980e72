"""DeconvNet: VGG-16 and its mirror image (Noh, Hong and Han 2015, table 2).

Its two linear layers become a 7x7 convolution, which sees the whole map, and a 1x1 convolution; a 7x7
transposed one spreads what they give; then max unpooling and transposed convolutions go up as VGG went down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
from jaxtyping import Array, Float, Key

from vision_jax.backbones.vgg import STAGES
from vision_jax.layers import Conv, Norm
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv_norm import ConvNorm
from vision_jax.layers.conv_transpose import ConvTranspose
from vision_jax.layers.norms import NormKind
from vision_jax.layers.upsampling import Upsample, Upsampling
from vision_jax.models.segmentation.encoder_decoder import encoded
from vision_jax.types import Count, Lengths, UserError


class DeconvNet(CheckedModule):
    """A deep encoder and as deep a decoder, mirrored, with a bottleneck between them.

    Attributes:
        num_classes: K; there is no background class, void pixels have no label.
        widths: channels of each stage.
        blocks: convolutions of each stage, and of each of the decoder.
        neck: side of the bottleneck's kernels, in locations of the last map, which has at least as many: 7
            for the paper's 224 pixels.
        neck_width: channels of the bottleneck.
        upsampling: how a map doubles its sides; max unpooling in the paper.
        norm: after each convolution and transposed convolution.
    """

    num_classes: Count
    widths: Annotated[Sequence[Count], Lengths()] = (64, 128, 256, 512, 512)
    blocks: Sequence[int] = STAGES["vgg16"]
    neck: Count = 7
    neck_width: Count = 4096
    upsampling: Upsampling = "max_unpooling"
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
            `neck` of the bottleneck, `decoder/<stride>`, and `logits` [B, H, W, K].

        Raises:
            UserError: the last map is smaller than the bottleneck's kernel.
        """
        maps, indices = encoded(x, self.widths, self.blocks, 3, self.norm, train)
        x = maps["bottom"]
        if min(x.shape[1:3]) < self.neck:
            least = self.neck * self.multiple
            raise UserError(
                f"the canvas gives a last map of {x.shape[2]}x{x.shape[1]} locations: a bottleneck of "
                f"{self.neck}x{self.neck} needs images of {least} pixels a side"
            )
        neck = ConvNorm(self.neck_width, self.neck, padding=0, norm=self.norm, epsilon=1e-5, name="neck1")
        x = neck(x, train)
        x = ConvNorm(self.neck_width, 1, norm=self.norm, epsilon=1e-5, name="neck2")(x, train)
        maps["neck"] = x
        x = self._spread(x, self.widths[-1], self.neck, 0, "neck3", train)
        for s in reversed(range(len(self.widths))):
            argmax = indices[s] if self.upsampling == "max_unpooling" else None
            x = Upsample(self.upsampling, name=f"upsample{s + 1}")(x, argmax)
            for i in range(self.blocks[s]):
                last = i + 1 == self.blocks[s]
                features = self.widths[max(s - 1, 0)] if last else self.widths[s]
                x = self._spread(x, features, 3, 1, f"decoder{s + 1}_{i + 1}", train)
            maps[f"decoder/{2**s}"] = x
        maps["logits"] = Conv(self.num_classes, size=1, name="score")(x)
        return maps

    def _spread(
        self, x: Float[Array, "b h w i"], features: int, size: int, padding: int, name: str, train: bool
    ) -> Float[Array, "b hh ww {features}"]:
        """A transposed convolution of stride 1, its norm and ReLU.

        Args:
            x: a map.
            features: output channels.
            size: side of the kernel.
            padding: taken from each side of the output.
            name: of the layer and its norm.
            train: whether batch norm uses this batch's statistics.
        """
        layer = ConvTranspose(features, size, 1, padding=padding, bias=False, name=f"{name}_conv")
        return nn.relu(Norm(self.norm, name=f"{name}_norm")(layer(x), train))
