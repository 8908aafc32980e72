"""torchvision's networks of the same make as ours, and a step of torch. Imports torch and torchvision."""
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision
from jaxtyping import UInt8
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d

from vision_jax.benchmarks.case import Settings
from vision_jax.benchmarks.training import CONFIG
from vision_jax.types import DetectionBatch


def classifier(name: str) -> Any:
    """A network with random weights."""
    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None)


def detector(settings: Settings, classes: int, masks: bool) -> Any:
    """Faster or Mask R-CNN on a ResNet with frozen batch norm, all of it trainable, and random weights."""
    torch.manual_seed(0)
    channels = settings.channels
    body = getattr(torchvision.models, settings.backbone)(weights=None, norm_layer=FrozenBatchNorm2d)
    stages = {f"layer{i + 1}": str(i) for i in range(4)}
    backbone = BackboneWithFPN(body, stages, [body.inplanes // 8 * 2**i for i in range(4)], channels)
    proposals, outputs = settings.proposals, classes + 1
    heads: dict[str, Any] = {
        "box_head": TwoMLPHead(channels * 49, 4 * channels),
        "box_predictor": FastRCNNPredictor(4 * channels, outputs),
    }
    if masks:
        heads["mask_head"] = MaskRCNNHeads(channels, (channels,) * 4, dilation=1)
        heads["mask_predictor"] = MaskRCNNPredictor(channels, channels, outputs)
    model = (MaskRCNN if masks else FasterRCNN)(
        backbone,
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_test=proposals,
        rpn_pre_nms_top_n_train=2 * proposals,
        rpn_post_nms_top_n_train=2 * proposals,
        box_batch_size_per_image=settings.rois_per_image,
        **heads,
    )
    # Images arrive in their size, and masks stay relative to their boxes, as ours do.
    model.transform.resize = lambda image, target: (image, target)  # pyright: ignore
    model.transform.postprocess = lambda result, *_: result  # pyright: ignore
    return model


class SegNetBasic(torch.nn.Module):
    """Four encoder stages of a 7x7 convolution, four decoder stages by max unpooling, those without ReLU."""

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        sizes = [3, width, width, width]
        self.encoders = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Conv2d(inputs, width, 7, padding=3, bias=False),
                torch.nn.BatchNorm2d(width),
                torch.nn.ReLU(),
            )
            for inputs in sizes
        )
        self.decoders = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Conv2d(width, width, 7, padding=3, bias=False), torch.nn.BatchNorm2d(width)
            )
            for _ in sizes
        )
        self.score = torch.nn.Conv2d(width, classes, 1)

    def forward(self, x: Any) -> Any:
        pools = []
        for encoder in self.encoders:
            x, positions = torch.nn.functional.max_pool2d(encoder(x), 2, return_indices=True)
            pools.append(positions)
        for decoder in self.decoders:
            x = decoder(torch.nn.functional.max_unpool2d(x, pools.pop(), (2, 2)))
        return self.score(x)


def segmenter(name: str, classes: int) -> Any:
    """A network with random weights, `fcn_resnet50` with its auxiliary scores."""
    torch.manual_seed(0)
    if name == "segnet_basic":
        return SegNetBasic(classes)
    make = getattr(torchvision.models.segmentation, name)
    return make(weights=None, weights_backbone=None, num_classes=classes, aux_loss=True)


def count_regions(model: Any) -> dict[str, int]:
    """A tally that each training step of a detector fills in: regions sampled, and those with objects."""
    tally: dict[str, int] = {}
    sample = model.roi_heads.select_training_samples

    def counting(*arguments: Any) -> Any:
        chosen = sample(*arguments)
        tally["regions"] = sum(len(labels) for labels in chosen[2])
        tally["masks"] = sum(int((labels > 0).sum()) for labels in chosen[2])
        return chosen

    model.roi_heads.select_training_samples = counting
    return tally


def detector_inputs(
    batch: DetectionBatch, masks: UInt8[np.ndarray, "b n h w"] | None = None
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The same images, boxes and bitmaps as torchvision takes them; its class 0 is the background."""
    images = [
        torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))).float() / 255
        for image in batch.image
    ]
    targets = []
    for b in range(len(images)):
        target = {
            "boxes": torch.from_numpy(np.array(batch.boxes[b])),
            "labels": torch.from_numpy(np.array(batch.labels[b], np.int64) + 1),
        }
        if masks is not None:
            target["masks"] = torch.from_numpy((masks[b] > 127).astype(np.uint8))
        targets.append(target)
    return images, targets


def stepping(model: Any, loss: Callable[[], Any]) -> Callable[[], float]:
    """A training step with our update rule.

    Args:
        model: what is trained.
        loss: the forward pass.

    Returns:
        A function that takes one step and gives the loss before it.
    """
    rule = torch.optim.SGD(
        model.parameters(), CONFIG.learning_rate, momentum=CONFIG.momentum, weight_decay=CONFIG.weight_decay
    )
    model.train()

    def step() -> float:
        value = loss()
        rule.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CONFIG.clip_norm)
        rule.step()
        return float(value.detach())

    return step
