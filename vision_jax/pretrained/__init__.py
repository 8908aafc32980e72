"""Weights of other frameworks: their files, read without running anything from them, and their names."""

from vision_jax.pretrained.start import starting_from
from vision_jax.pretrained.torchvision import Pretrained, from_torchvision, to_torchvision
from vision_jax.pretrained.weights import read_weights

__all__ = ["Pretrained", "from_torchvision", "read_weights", "starting_from", "to_torchvision"]
