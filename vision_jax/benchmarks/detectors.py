"""Faster and Mask R-CNN on a ResNet with a feature pyramid: predicting, and a training step."""
# pyright: reportMissingImports=false

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.backbones import ResNetName, resnet
from vision_jax.backbones.resnet import is_bottleneck
from vision_jax.benchmarks.case import Case, Settings, Side
from vision_jax.benchmarks.operations import compiled
from vision_jax.benchmarks.torchvision_weights import detector_variables
from vision_jax.benchmarks.training import training
from vision_jax.layers import FPN
from vision_jax.models.detection.two_stage import FasterRCNN, MLPHead
from vision_jax.models.instance import FCNMaskHead, MaskRCNN
from vision_jax.training.state import Variables, initial_variables
from vision_jax.types import DetectionBatch, InstanceBatch

_CLASSES = 90

# Random weights detect nothing. A residual branch of a quarter keeps features of one scale in many blocks;
# a bias of 6 for one class lets it pass the score threshold nearly everywhere (403 against 90 others of 1).
_RESIDUAL_SCALE = 0.25
_FAVOR = 6.0


class Detector(Case):
    """A detector with frozen batch norm and 90 classes, on one image.

    The image holds as many objects as a step may sample positive regions. Truths are regions too, so both
    sides sample full quotas, whatever was proposed. Masks are full bitmaps on both sides.
    """

    images = 1

    def __init__(self, settings: Settings, masks: bool, train: bool):
        self._settings = settings
        self._masks = masks
        self._train = train
        batch = crowded_batch(settings.canvas, settings.rois_per_image // 4)
        self._batch = batch if masks else without_masks(batch)
        self._bitmaps = np.asarray(batch.masks) if masks else None

    def ours(self, peer: Any = None) -> Side:
        settings, batch = self._settings, self._batch
        branch: dict[str, Any] = {"mask_head": FCNMaskHead(features=settings.channels)} if self._masks else {}
        model = (MaskRCNN if self._masks else FasterRCNN)(
            resnet(settings.backbone, "frozen"),
            _CLASSES,
            neck=FPN(settings.channels),
            head=MLPHead(4 * settings.channels),
            **branch,
            train_proposals=(2 * settings.proposals, 2 * settings.proposals),
            test_proposals=(settings.proposals, settings.proposals),
            rois_per_image=settings.rois_per_image,
        )
        if peer is None:
            variables = initial_variables(model, jax.random.key(0), batch)
            _favor(variables["params"], settings.backbone)
        else:
            variables = detector_variables(peer)
        if self._train:
            masks = {"masks": "mask"} if self._masks else {}
            return training(model, variables, batch, {"regions": "roi_class", **masks})
        return compiled(
            lambda variables, batch: model.apply(variables, batch, method="predict"),
            *(variables, batch),
            count=lambda found: {"detections": int(np.sum(found.valid))},
        )

    def theirs(self) -> Side:
        import torch

        from vision_jax.benchmarks.torchvision_models import (
            count_regions,
            detector,
            detector_inputs,
            stepping,
        )

        model = detector(self._settings, _CLASSES, self._masks)
        with torch.no_grad():
            for name, parameter in model.backbone.body.named_buffers():
                if name.endswith(f"bn{_last_norm(self._settings.backbone)}.weight"):
                    parameter.fill_(_RESIDUAL_SCALE)
            model.roi_heads.box_predictor.cls_score.bias[1] = _FAVOR
        images, targets = detector_inputs(self._batch, self._bitmaps)
        if self._train:
            tally = count_regions(model)
            counted = ("regions", "masks") if self._masks else ("regions",)
            step = stepping(model, lambda: sum(model(images, targets).values()))
            return Side(step, lambda outcome: {name: tally[name] for name in counted}, model)
        model.eval()

        def run():
            with torch.no_grad():
                return model(images)

        return Side(run, lambda found: {"detections": len(found[0]["scores"])}, model)


def crowded_batch(canvas: int, objects: int) -> InstanceBatch:
    """One image of noise with objects in a grid, each an ellipse in its box.

    Args:
        canvas: height and width, in pixels.
        objects: how many.
    """
    random = np.random.default_rng(0)
    columns = math.ceil(math.sqrt(objects))
    rows = math.ceil(objects / columns)
    height, width = canvas / rows, canvas / columns
    position = np.arange(objects)
    left, top = position % columns * width, position // columns * height
    boxes = np.stack([left, top, left + 0.9 * width, top + 0.9 * height], 1).astype(np.float32)
    y, x = np.mgrid[:canvas, :canvas] + 0.5
    across = (x - (left + 0.45 * width)[:, None, None]) / (0.45 * width)
    down = (y - (top + 0.45 * height)[:, None, None]) / (0.45 * height)
    size = np.full((1, 2), canvas, np.int32)
    parts: dict[str, Any] = {
        "image": random.integers(0, 256, (1, canvas, canvas, 3)).astype(np.uint8),
        "size": size,
        "boxes": boxes[None],
        "labels": random.integers(0, _CLASSES, (1, objects)).astype(np.int32),
        "valid": np.ones((1, objects), bool),
        "ignore": np.zeros((1, objects), bool),
        "id": np.zeros(1, np.int32),
        "scale": np.ones((1, 2), np.float32),
        "original_size": size,
        "example_valid": np.ones(1, bool),
        "masks": np.where(across**2 + down**2 < 1, 255, 0).astype(np.uint8)[None],
        "frames": np.tile(np.array([0, 0, canvas, canvas], np.float32), (1, objects, 1)),
    }
    return InstanceBatch(**parts)


def without_masks(batch: InstanceBatch) -> DetectionBatch:
    """The same images and boxes."""
    return DetectionBatch(**{f.name: getattr(batch, f.name) for f in fields(DetectionBatch)})


def _favor(params: Variables, backbone: ResNetName) -> None:
    """Changes random parameters in place, as `Detector.theirs` changes the peer's."""
    norm = f"norm{_last_norm(backbone)}"
    for block in params["backbone"].values():
        if norm in block:
            block[norm]["scale"] = jnp.full_like(block[norm]["scale"], _RESIDUAL_SCALE)
    classes = params["predictor"]["classes"]
    classes["bias"] = classes["bias"].at[0].set(_FAVOR)


def _last_norm(backbone: ResNetName) -> int:
    """The number of a residual branch's last norm, from 1."""
    return 3 if is_bottleneck(backbone) else 2
