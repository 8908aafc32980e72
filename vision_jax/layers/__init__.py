"""Small Flax modules that several systems share."""

from vision_jax.layers.conv import Conv, Dense
from vision_jax.layers.fpn import FPN
from vision_jax.layers.images import normalise
from vision_jax.layers.norms import Norm

__all__ = ["FPN", "Conv", "Dense", "Norm", "normalise"]
