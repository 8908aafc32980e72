"""Every system of the library, at tiny width, with batches for it: what the contract tests go through.

A new system is one line in its family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn

from tests import batches
from tests.models.segmentation.networks import NETWORKS
from vision_jax.backbones.alexnet import AlexNet
from vision_jax.backbones.googlenet import GoogLeNet
from vision_jax.backbones.inception import InceptionV3
from vision_jax.backbones.inception_v2 import InceptionV2
from vision_jax.backbones.inception_v4 import InceptionResNet, InceptionV4
from vision_jax.backbones.mobilenet import MobileNet, Residual
from vision_jax.backbones.resnet import ResNet
from vision_jax.backbones.vgg import VGG
from vision_jax.layers import FPN
from vision_jax.models.classification.image_classifier import (
    Auxiliary,
    AverageHead,
    ImageClassifier,
    LayersHead,
    PooledHead,
)
from vision_jax.models.classification.small_cnn import SmallCNN
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead, ResidualHead, SingleLevel
from vision_jax.models.instance import FCNMaskHead, MaskRCNN, MLPMaskHead
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.models.spatial_transformers.colocalizer import CoLocalizer, CropEncoder
from vision_jax.models.spatial_transformers.spatial_transformer import (
    Affine,
    Projective,
    Rotation,
    SpatialTransformer,
    ThinPlateSpline,
)
from vision_jax.models.spatial_transformers.transformed_classifier import (
    Convolutional,
    FullyConnected,
    TransformedClassifier,
)

K = 3


@dataclass(frozen=True)
class System:
    """A system, small enough to be compiled in a second or two.

    Attributes:
        model: makes it.
        batch: (images) -> a batch for it.
        without_gradient: what the names of parameters match (a regular expression) whose gradient is zero
            whatever the data: biases that a batch norm takes away again, frozen parts; none if empty.
        slow: whether it belongs to the tier slow: it takes longer to trace and compile than the default tier
            has for a system, or another of its kind stands there for it.
        variant: whether another of its kind stands for it where steps are compiled for eight devices and
            lowered for other ones: the same layers in another order, or another setting of them.
    """

    model: Callable[[], nn.Module]
    batch: Callable[[int], Any]
    without_gradient: str = ""
    slow: bool = False
    variant: bool = False


def _rcnn(kind: type[FasterRCNN], **settings: Any) -> FasterRCNN:
    shared = {
        "num_classes": K,
        "train_proposals": (60, 40),
        "test_proposals": (60, 20),
        "rois_per_image": 16,
        "max_detections": 10,
        "head": MLPHead(32),
    }
    if kind is MaskRCNN:
        shared |= {"mask_head": FCNMaskHead(1, 16), "mask_chunk": 4}
    return kind(**{**shared, **settings})


def _pyramid(norm: str = "group") -> dict[str, Any]:
    return {
        "backbone": ResNet((1, 1, 1, 1), bottleneck=False, norm=norm, width=8),
        "neck": FPN(16, "group"),
        # All anchors enter the loss, so that every map learns.
        "rpn": RPN(sizes=(8, 16, 32, 64, 128), anchors_per_image=1024),
    }


def _one_map() -> dict[str, Any]:
    return {
        "backbone": ResNet((1, 1, 1), bottleneck=False, norm="group", width=8),
        "neck": SingleLevel("c4"),
        "rpn": RPN(sizes=((8, 16, 32),), anchors_per_image=32),
    }


def _c4_head() -> dict[str, Any]:
    return {
        "head": ResidualHead(1, 32, bottleneck=False, norm="batch"),
        "pooled_size": 14,
        "mask_head": FCNMaskHead(0, 16),
        "mask_after_head": True,
    }


def _classifier(backbone: nn.Module, level: str = "c5", head: nn.Module = AverageHead(), **settings: Any):
    return ImageClassifier(backbone, K, head, level, **settings)


def _straightened(transform: Any) -> TransformedClassifier:
    transformer = SpatialTransformer(Convolutional((4,), (5,), (8,)), transform)
    return TransformedClassifier(K, FullyConnected((16,)), transformer)


DETECTION: dict[str, System] = {
    "faster_rcnn_pyramid": System(
        lambda: _rcnn(FasterRCNN, **_pyramid("batch")), batches.detection, slow=True
    ),
    "faster_rcnn_roi_pool_one_map": System(
        lambda: _rcnn(FasterRCNN, **_one_map(), roi="pool", class_agnostic=True), batches.detection, slow=True
    ),
    "mask_rcnn_pyramid": System(
        lambda: _rcnn(MaskRCNN, **_pyramid()), batches.instances, slow=True, variant=True
    ),
    "mask_rcnn_c4": System(lambda: _rcnn(MaskRCNN, **_one_map(), **_c4_head()), batches.instances, slow=True),
    "mask_rcnn_mlp": System(
        lambda: _rcnn(MaskRCNN, **_one_map(), mask_head=MLPMaskHead(14, 16)), batches.instances
    ),
}

# The biases of FCN's convolutions stand before batch norms.
SEGMENTATION: dict[str, System] = {
    **{
        f"segmenter_{name}": System(
            partial(lambda make: Segmenter(make()), make),
            batches.segmentation,
            without_gradient=r"stage\d_conv\d/bias$" if "fcn" in name else "",
            slow=name not in ("full_resolution", "max_unpooling", "fcn", "unet"),
            variant=name
            not in ("full_resolution", "max_unpooling", "fcn", "fcn_interpolated", "deconvnet", "unet"),
        )
        for name, make in NETWORKS.items()
    },
}

CLASSIFICATION: dict[str, System] = {
    "small_cnn": System(lambda: SmallCNN(K, (4, 8)), batches.classification),
    "alexnet": System(
        lambda: _classifier(AlexNet((8, 12, 12, 8, 8)), head=LayersHead(1, 16)),
        partial(batches.classification, side=67),
    ),
    "vgg": System(
        lambda: _classifier(VGG((1, 1), (8, 16), norm="batch"), "c2", LayersHead(2, 32)),
        batches.classification,
        without_gradient=r"stage\d_conv1/bias$",
    ),
    "resnet_basic": System(
        lambda: _classifier(ResNet((1, 1), bottleneck=False, width=8), "c3"),
        partial(batches.classification, side=32),
    ),
    "resnet_bottleneck": System(
        lambda: _classifier(ResNet((1, 1), bottleneck=True, width=8), "c3"),
        partial(batches.classification, side=32),
        slow=True,
        variant=True,
    ),
    "mobilenet": System(
        lambda: _classifier(
            MobileNet(8, (Residual(8, 8), Residual(32, 16, 5, 2, True, "hard_swish")), 32),
            "c2",
            AverageHead(0.2),
        ),
        batches.classification,
        without_gradient="narrow_norm/bias$",
    ),
    "googlenet": System(
        lambda: _classifier(GoogLeNet(width=1 / 8), auxiliary=(Auxiliary("4a", PooledHead(), 0.3),)),
        partial(batches.classification, side=64),
        slow=True,
    ),
    "inception_v2": System(
        lambda: _classifier(InceptionV2(width=1 / 8)),
        partial(batches.classification, side=64),
        slow=True,
        variant=True,
    ),
    "inception_v3": System(
        lambda: _classifier(InceptionV3(width=1 / 8)),
        partial(batches.classification, side=96),
        slow=True,
        variant=True,
    ),
    "inception_v4": System(
        lambda: _classifier(InceptionV4((1, 1, 1), width=1 / 16)),
        partial(batches.classification, side=96),
        slow=True,
        variant=True,
    ),
    "inception_resnet_v1": System(
        lambda: _classifier(InceptionResNet("v1", (1, 1, 1), width=1 / 16)),
        partial(batches.classification, side=96),
        slow=True,
        variant=True,
    ),
    "inception_resnet_v2": System(
        lambda: _classifier(InceptionResNet("v2", (1, 1, 1), width=1 / 16)),
        partial(batches.classification, side=96),
        slow=True,
        variant=True,
    ),
}

SPATIAL_TRANSFORMERS: dict[str, System] = {
    **{
        f"classifier_behind_{name}": System(
            partial(_straightened, transform),
            batches.classification,
            slow=name in ("affine", "projective"),
            variant=name in ("affine", "projective"),
        )
        for name, transform in {
            "rotation": Rotation(),
            "affine": Affine(),
            "projective": Projective(),
            "thin_plate_spline": ThinPlateSpline(3),
        }.items()
    },
    "colocalizer": System(
        lambda: CoLocalizer(
            Convolutional((8,), (5,), (16,), stride=2),
            CropEncoder(10, Convolutional((4,), (5,))),
            sides=(0.3, 0.5),
            size=12,
        ),
        partial(batches.detection, side=32),
        without_gradient="^(encoder/|scale$)",
    ),
}
