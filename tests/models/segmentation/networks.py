"""Small segmenters of every kind, and batches of small label maps, for the tests beside this file."""

import jax
import numpy as np

from tests.batches import segmentation_of
from vision_jax.backbones.resnet import ResNet
from vision_jax.backbones.vgg import VGG
from vision_jax.models.segmentation.deconvnet import DeconvNet
from vision_jax.models.segmentation.encoder_decoder import EncoderDecoder
from vision_jax.models.segmentation.fcn import FCN, ConvolvedLayers, FCNHead
from vision_jax.models.segmentation.full_resolution import FullResolution
from vision_jax.models.segmentation.segnet import segnet_basic
from vision_jax.models.segmentation.unet import UNet
from vision_jax.types import SegmentationBatch

K = 3


def encoder_decoder(upsampling, **settings):
    return EncoderDecoder(K, (8, 8, 12), 1, upsampling=upsampling, **settings)


def small_vgg():
    return VGG((1, 1, 1), (6, 8, 10), "batch", pooled=True)


NETWORKS = {
    "full_resolution": lambda: FullResolution(K, width=8, depth=3),
    "nearest": lambda: encoder_decoder("nearest"),
    "bed_of_nails": lambda: encoder_decoder("bed_of_nails"),
    "bilinear": lambda: encoder_decoder("bilinear"),
    "max_unpooling": lambda: encoder_decoder("max_unpooling"),
    "transposed": lambda: encoder_decoder("transposed"),
    "averaged": lambda: encoder_decoder("averaged"),
    "resize_convolution": lambda: encoder_decoder("resize_convolution"),
    "addition": lambda: EncoderDecoder(
        K, (8, 8), 1, upsampling="max_unpooling", addition=True, decoder_relu=False
    ),
    "single_channel": lambda: EncoderDecoder(
        K, (8, 8), 1, upsampling="max_unpooling", decoder="single_channel"
    ),
    "no_decoder": lambda: EncoderDecoder(K, (8, 8), 1, decoder="none"),
    "fcn_basic": lambda: segnet_basic(K, "fcn_basic", width=6, size=3),
    "fcn_no_addition": lambda: segnet_basic(K, "fcn_basic_no_addition", width=6, size=3),
    "fcn_no_reduction": lambda: segnet_basic(K, "fcn_basic_no_dim_reduction", width=6, size=3),
    "fcn_neither": lambda: segnet_basic(K, "fcn_basic_no_addition_no_dim_reduction", width=6, size=3),
    "fcn": lambda: FCN(K, small_vgg(), ("c3", "c2", "c1"), head=ConvolvedLayers(12, 3, 0.1), deepest=8),
    "fcn_interpolated": lambda: FCN(
        K,
        ResNet((1, 1, 1), False, width=8, output_stride=8),
        ("c4",),
        head=FCNHead(12),
        auxiliary_level="c3",
        auxiliary_head=FCNHead(8),
        upsampling="bilinear",
    ),
    "deconvnet": lambda: DeconvNet(K, (8, 12, 12), (1, 1, 2), neck=3, neck_width=16),
    "unet": lambda: UNet(K, (8, 12, 16), blocks=1),
    "unet_stem": lambda: UNet(K, (8, 12), blocks=1, upsampling="nearest", stem=2),
}


def make_batch(
    count: int = 2, height: int = 32, width: int = 48, content: tuple[int, int] | None = None, seed: int = 0
) -> SegmentationBatch:
    """Noise with random labels, some of them void, at the top left of a canvas."""
    content = content or (height, width)
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, height, width, 3), np.uint8)
    labels = rng.integers(-1, K, (count, height, width)).astype(np.int32)
    inside = (np.arange(height)[:, None] < content[0]) & (np.arange(width) < content[1])
    batch = segmentation_of(image * inside[..., None].astype(np.uint8), np.where(inside, labels, -1), content)
    return jax.device_put(batch)


def striped_batch() -> SegmentationBatch:
    """Upright stripes of three shades, 8 pixels wide, and their classes."""
    labels = np.tile(np.arange(48) // 8 % K, (2, 32, 1))
    return segmentation_of((labels[..., None] * 100).astype(np.uint8).repeat(3, -1), labels)
