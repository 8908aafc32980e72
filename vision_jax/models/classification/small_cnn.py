"""A small convolutional classifier: stages of 3x3 convolutions, normalization and ReLU, then an average.

The plainest descendant of LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning
applied to document recognition") and VGG (Simonyan and Zisserman 2015, section 2.1): two 3x3
convolutions a stage, a 2x2 max-pool between stages, and global average pooling (Lin, Chen and Yan 2014,
"Network in network", section 3.2) in place of fully connected layers, so that it takes images of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.layers import Conv, Dense, Norm, normalize
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.norms import NormKind
from vision_jax.layers.pooling import max_pool_2x2
from vision_jax.models.classification.classifier import class_loss, most_probable
from vision_jax.types import Classification, ClassificationBatch, Count, Lengths, Mean


class SmallCNN(CheckedModule):
    """Stages of two convolutions, each stage at half the resolution of the one before.

    Attributes:
        num_classes: K; there is no background class.
        widths: channels of each stage; images have at least 2 ** (stages - 1) pixels a side.
        norm: after each convolution.
    """

    num_classes: Count
    widths: Annotated[Sequence[Count], Lengths()] = (16, 32, 64)
    norm: NormKind = "batch"

    @nn.compact
    def __call__(self, batch: ClassificationBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Scores each image.

        Args:
            batch: images of one size.
            train: whether batch norm uses this batch's statistics, and updates its running ones.

        Returns:
            `stage/0`, `stage/1`, ... [B, H / 2^i, W / 2^i, C], and `logits` [B, K].
        """
        outputs = {}
        x = normalize(batch.image)
        for i, width in enumerate(self.widths):
            if i > 0:
                x = max_pool_2x2(x)
            for _ in range(2):
                x = Conv(width, bias=False)(x)
                x = nn.relu(Norm(kind=self.norm, groups=8)(x, train))
            outputs[f"stage/{i}"] = x
        outputs["logits"] = Dense(self.num_classes)(x.mean((1, 2)))
        return outputs

    def loss(self, batch: ClassificationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the images that are no padding examples."""
        return class_loss(self(batch, train)["logits"], batch)

    def predict(self, batch: ClassificationBatch) -> Classification:
        """The most probable class of each image."""
        return most_probable(self(batch)["logits"])
