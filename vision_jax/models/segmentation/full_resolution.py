"""A network that never downsamples: every layer is a convolution at full resolution.

The simplest fully convolutional network, and too expensive: its cost is pixels times layers times channels
squared, and each layer adds only 2 pixels to the receptive field. What downsampling saves is measured
against it (`experiments/segmentation/full_resolution`).
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float, Key

from vision_jax.layers import Conv
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.norms import NormKind
from vision_jax.models.segmentation.encoder_decoder import Convolutions
from vision_jax.types import Count, Whole


class FullResolution(CheckedModule):
    """3x3 convolutions, their norms and ReLUs, and a score for each class.

    Attributes:
        num_classes: K; there is no background class, void pixels have no label.
        width: channels of every layer.
        depth: layers before the scores; a pixel sees `depth` pixels each way.
        norm: after each convolution.
    """

    num_classes: Count
    width: Count = 32
    depth: Whole = 8
    norm: NormKind = "batch"

    @property
    def multiple(self) -> int:
        """The sides of its images are multiples of this: it takes any size."""
        return 1

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
            `features` [B, H, W, C], the last layer's, and `logits` [B, H, W, K].
        """
        x = Convolutions(self.width, self.depth, 3, self.norm, name="layers")(x, train)
        return {"features": x, "logits": Conv(self.num_classes, size=1, name="score")(x)}
