"""Backbones: an image in, feature maps by name out."""

from vision_jax.backbones.resnet import ResNet, ResNetName, resnet

__all__ = ["ResNet", "ResNetName", "resnet"]
