"""A plain fully convolutional segmenter: down to stride 8, and back up by interpolation.

Every layer is a convolution, so one pass labels all pixels of an image of any size (Long, Shelhamer and
Darrell 2015, section 3); downsampling makes it affordable, and an encoder-decoder (Badrinarayanan,
Kendall and Cipolla 2017, section 3) brings the scores back to full resolution, here with fixed bilinear or
nearest upsampling. No skips, no unpooling, no class balancing: what those add is measured against this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision_jax.layers import Conv, Norm, normalise
from vision_jax.types import Mean, Segmentation, SegmentationBatch, UserError


class PlainFCN(nn.Module):
    """Stages down by strided convolutions, and as many up by interpolation and convolution.

    Attributes:
        num_classes: K; there is no background class, void pixels have no label.
        widths: channels at strides 2, 4, 8 and so on; the canvas's sides are multiples of the last stride.
        upsampling: how a map doubles its sides on the way up; both keep pixel centres at +0.5.
    """

    num_classes: int
    widths: Sequence[int] = (32, 64, 128)
    upsampling: Literal["bilinear", "nearest"] = "bilinear"

    @nn.compact
    def __call__(self, batch: SegmentationBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Scores each pixel.

        Args:
            batch: images on one canvas.
            train: whether batch norm uses this batch's statistics, and updates its running ones.

        Returns:
            `encoder/<stride>` and `decoder/<stride>` [B, H / stride, W / stride, C]; `logits` [B, H, W, K].

        Raises:
            UserError: the canvas's sides are no multiples of the last stride.
        """
        outputs = {}
        stride = 2 ** len(self.widths)
        height, width = batch.image.shape[1:3]
        if height % stride or width % stride:
            raise UserError(f"the canvas is {width}x{height}: this network needs multiples of {stride}")
        x = normalise(batch.image, batch.size)
        for i, features in enumerate(self.widths):
            x = self._conv(x, features, train, stride=2)
            x = self._conv(x, features, train)
            outputs[f"encoder/{2 ** (i + 1)}"] = x
        for i in reversed(range(len(self.widths) - 1)):
            x = self._conv(self._doubled(x), self.widths[i], train)
            outputs[f"decoder/{2 ** (i + 1)}"] = x
        # The last doubling is of the scores: K channels at full resolution cost less than features do.
        outputs["logits"] = self._doubled(Conv(self.num_classes, size=1)(x))
        return outputs

    def _conv(
        self, x: Float[Array, "b h w c"], features: int, train: bool, stride: int = 1
    ) -> Float[Array, "b h2 w2 d"]:
        x = Conv(features, stride=stride, bias=False)(x)
        return nn.relu(Norm(kind="batch")(x, train))

    def _doubled(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        b, h, w, c = x.shape
        return jax.image.resize(x, (b, 2 * h, 2 * w, c), self.upsampling)

    def loss(self, batch: SegmentationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the pixels that have a label."""
        logits = self(batch, train)["logits"]
        labelled = (batch.labels >= 0) & batch.example_valid[:, None, None]
        # With one-hot targets the gradient is a difference; picking by index would scatter, slowly on CPUs.
        each = optax.softmax_cross_entropy(logits, jax.nn.one_hot(batch.labels, self.num_classes))
        return {"cross_entropy": Mean.over(each, where=labelled)}

    def predict(self, batch: SegmentationBatch) -> Segmentation:
        """The most probable class of each pixel."""
        logits = self(batch)["logits"]
        labels = logits.argmax(-1).astype(jnp.int32)
        return Segmentation(labels=labels, probabilities=nn.softmax(logits))
