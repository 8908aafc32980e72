"""Small Flax modules that several systems share.

They compute in the dtype of their parameters, which the training step casts: convolutions and fully connected
layers cast their input to it. Normalizations take moments and statistics in float32 at least and put out what
they were given. Nothing casts back: a system casts its raw outputs to float32 before losses and boxes are
made of them.
"""

from vision_jax.layers.conv import Conv, Dense
from vision_jax.layers.conv_transpose import ConvTranspose
from vision_jax.layers.fpn import FPN
from vision_jax.layers.images import normalize
from vision_jax.layers.norms import Norm

__all__ = ["FPN", "Conv", "ConvTranspose", "Dense", "Norm", "normalize"]
