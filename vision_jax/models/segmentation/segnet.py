"""SegNet and SegNet-Basic (Badrinarayanan, Kendall and Cipolla 2017), and the variants of its table 1."""

from __future__ import annotations

from typing import Literal

from vision_jax.backbones.vgg import STAGES, VGG
from vision_jax.layers.norms import NormKind
from vision_jax.layers.upsampling import Upsampling
from vision_jax.models.segmentation.encoder_decoder import EncoderDecoder
from vision_jax.models.segmentation.fcn import FCN

BasicVariant = Literal[
    "segnet_basic",
    "encoder_addition",
    "single_channel_decoder",
    "bilinear",
    "fcn_basic",
    "fcn_basic_no_addition",
    "fcn_basic_no_dim_reduction",
    "fcn_basic_no_addition_no_dim_reduction",
]


def segnet(
    num_classes: int,
    widths: tuple[int, ...] = (64, 128, 256, 512, 512),
    upsampling: Upsampling = "max_unpooling",
    norm: NormKind = "batch",
) -> EncoderDecoder:
    """SegNet: the 13 convolutions of VGG-16, batch norm, and a decoder that mirrors them (section 3).

    Args:
        num_classes: K.
        widths: channels of each stage.
        upsampling: instead of max unpooling.
        norm: after each convolution.
    """
    return EncoderDecoder(num_classes, widths, STAGES["vgg16"], upsampling=upsampling, norm=norm)


def segnet_basic(
    num_classes: int,
    variant: BasicVariant = "segnet_basic",
    width: int = 64,
    size: int = 7,
    upsampling: Upsampling = "max_unpooling",
    norm: NormKind = "batch",
) -> EncoderDecoder | FCN:
    """SegNet-Basic or a variant of it: four stages of one convolution, no ReLU in the decoder (section 3.1).

    Args:
        num_classes: K.
        variant: SegNet-Basic; the encoder's maps added to what each of the decoder's stages gives; decoder
            kernels of one channel; no decoder, scores upsampled by interpolation; or FCN's decoder on the
            same encoder: scores (or, without reduction, features) upsampled by 8x8 transposed convolutions of
            stride 2 from grid to grid, the encoder's scores added, or not.
        width: channels of every stage.
        size: of the kernels, in pixels; 7 in the paper.
        upsampling: instead of max unpooling, where a variant has that.
        norm: after each convolution.
    """
    widths = (width,) * 4
    if variant.startswith("fcn"):
        return FCN(
            num_classes,
            VGG((1,) * 4, widths, norm, size, pooled=True),
            skips=("c4", "c3", "c2", "c1"),
            addition="no_addition" not in variant,
            reduction="no_dim_reduction" not in variant,
            kernel=4,
            deepest=16,
        )
    return EncoderDecoder(
        num_classes,
        widths,
        blocks=1,
        size=size,
        upsampling="bilinear" if variant == "bilinear" else upsampling,
        decoder=("none" if variant == "bilinear" else "single_channel" if "single" in variant else "full"),
        addition=variant == "encoder_addition",
        decoder_relu=False,
        norm=norm,
    )
