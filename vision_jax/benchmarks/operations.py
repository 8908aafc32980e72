"""Operations: RoIAlign, NMS, IoU, bilinear sampling."""
# pyright: reportMissingImports=false

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float

from vision_jax.benchmarks.case import Case, Settings, Side
from vision_jax.ops import box_iou, nms, roi_align, sample_bilinear, target_points

_STRIDE = 16
_BINS = 7
_THRESHOLD = 0.5


class RoIAlign(Case):
    """RoIAlign of one map of stride 16, 7x7 bins of 2x2 samples; with or without the map's gradient."""

    def __init__(self, settings: Settings, gradient: bool):
        random = np.random.default_rng(0)
        cells = settings.cells
        self._gradient = gradient
        self._features = random.normal(size=(cells, cells, settings.channels)).astype(np.float32)
        self._boxes = random_boxes(random, settings.regions, cells * _STRIDE, cells * _STRIDE / 2)
        shape = (settings.regions, _BINS, _BINS, settings.channels)
        self._cotangent = random.normal(size=shape).astype(np.float32)

    def ours(self, peer: Any = None) -> Side:
        def pool(features: Float[Array, "h w c"], boxes: Float[Array, "r 4"]) -> Float[Array, "r b b c"]:
            """Pooled features of all boxes, those in pixels of the image."""
            return roi_align(features, boxes, _BINS, 1 / _STRIDE, 2)

        def with_gradient(
            features: Float[Array, "h w c"], boxes: Float[Array, "r 4"], cotangent: Float[Array, "r b b c"]
        ) -> tuple[Float[Array, "r b b c"], Float[Array, "h w c"]]:
            """Pooled features, and the gradient of the map."""
            pooled, pull = jax.vjp(lambda features: pool(features, boxes), features)
            return pooled, pull(cotangent)[0]

        if not self._gradient:
            return compiled(pool, self._features, self._boxes)
        return compiled(with_gradient, self._features, self._boxes, self._cotangent)

    def theirs(self) -> Side:
        import torch
        from torchvision.ops import roi_align as their_roi_align

        features = torch.from_numpy(self._features.transpose(2, 0, 1)[None].copy())
        boxes = [torch.from_numpy(self._boxes)]
        cotangent = torch.from_numpy(self._cotangent.transpose(0, 3, 1, 2).copy())

        def run():
            if not self._gradient:
                return their_roi_align(features, boxes, _BINS, 1 / _STRIDE, 2)
            inputs = features.detach().requires_grad_()
            pooled = their_roi_align(inputs, boxes, _BINS, 1 / _STRIDE, 2)
            pooled.backward(cotangent)
            return pooled, inputs.grad

        return Side(run)


class NMS(Case):
    """NMS at IoU 0.5 of boxes that rarely suppress others, that mostly do, or that form a chain.

    In a chain each box has an IoU above 0.5 with the next one in rank, and with no other: every second box is
    kept, and each decision depends on the one before.
    """

    def __init__(self, settings: Settings, arrangement: Literal["spread", "dense", "chain"]):
        random = np.random.default_rng(0)
        count = settings.boxes
        if arrangement == "chain":
            left = 25.0 * np.arange(count)  # 100 wide: IoU 0.6 with the next, 0.33 with the one after
            boxes = np.stack([left, 0 * left, left + 100, 0 * left + 100], 1).astype(np.float32)
            scores = np.linspace(1, 0.5, count, dtype=np.float32)
        else:
            boxes = random_boxes(random, count, 4000 if arrangement == "spread" else 300, 100)
            scores = random.permutation(count).astype(np.float32) / count
        self._boxes, self._scores = boxes, scores

    def ours(self, peer: Any = None) -> Side:
        keep = partial(nms, iou_threshold=_THRESHOLD, max_outputs=len(self._boxes))
        return compiled(keep, self._boxes, self._scores, count=lambda kept: {"kept": int(np.sum(kept[1]))})

    def theirs(self) -> Side:
        import torch
        from torchvision.ops import nms as their_nms

        boxes, scores = torch.from_numpy(self._boxes), torch.from_numpy(self._scores)
        return Side(lambda: their_nms(boxes, scores, _THRESHOLD), lambda kept: {"kept": len(kept)})


class BoxIoU(Case):
    """The IoU of every box with every one of as many others."""

    def __init__(self, settings: Settings):
        random = np.random.default_rng(0)
        self._boxes = [random_boxes(random, settings.boxes, 800, 200) for _ in range(2)]

    def ours(self, peer: Any = None) -> Side:
        return compiled(box_iou, *self._boxes)

    def theirs(self) -> Side:
        import torch
        from torchvision.ops import box_iou as their_box_iou

        boxes = [torch.from_numpy(boxes) for boxes in self._boxes]
        return Side(lambda: their_box_iou(boxes[0], boxes[1]))


class BilinearSampling(Case):
    """Images warped by random affine maps, one each; with or without the gradients of images and points."""

    def __init__(self, settings: Settings, gradient: bool):
        random = np.random.default_rng(0)
        self.images, size = settings.warped, settings.image
        self._gradient = gradient
        self._image = random.normal(size=(self.images, size, size, 3)).astype(np.float32)
        theta = np.eye(2, 3) + 0.3 * random.normal(size=(self.images, 2, 3))
        plane = np.concatenate([target_points((size, size)), np.ones((size, size, 1))], -1)
        self._points = np.einsum("bij,hwj->bhwi", theta, plane).astype(np.float32)
        self._cotangent = random.normal(size=self._image.shape).astype(np.float32)

    def ours(self, peer: Any = None) -> Side:
        sample = jax.vmap(sample_bilinear)

        def with_gradients(
            image: Float[Array, "n h w c"],
            points: Float[Array, "n h w 2"],
            cotangent: Float[Array, "n h w c"],
        ) -> tuple[Array, Array, Array]:
            """Warped images, and the gradients of images and points."""
            warped, pull = jax.vjp(sample, image, points)
            return warped, *pull(cotangent)

        if not self._gradient:
            return compiled(sample, self._image, self._points)
        return compiled(with_gradients, self._image, self._points, self._cotangent)

    def theirs(self) -> Side:
        import torch
        from torch.nn.functional import grid_sample

        image = torch.from_numpy(self._image.transpose(0, 3, 1, 2).copy())
        points = torch.from_numpy(self._points)
        cotangent = torch.from_numpy(self._cotangent.transpose(0, 3, 1, 2).copy())

        def run():
            if not self._gradient:
                return grid_sample(image, points, align_corners=False)
            inputs = image.detach().requires_grad_(), points.detach().requires_grad_()
            warped = grid_sample(*inputs, align_corners=False)
            warped.backward(cotangent)
            return warped, inputs[0].grad, inputs[1].grad

        return Side(run)


def compiled(function: Any, *inputs: Any, count: Any = lambda outcome: {}) -> Side:
    """A side that calls a compiled function on inputs that are on the device already."""
    function, inputs = jax.jit(function), jax.device_put(inputs)
    return Side(lambda: jax.block_until_ready(function(*inputs)), count)


def random_boxes(
    random: np.random.Generator, count: int, extent: float, largest: float
) -> Float[np.ndarray, "{count} 4"]:
    """Random boxes (x1, y1, x2, y2), float32, inside a square, in pixels.

    Args:
        random: numbers.
        count: how many.
        extent: side of the square.
        largest: sides are a tenth of it to all of it, log-uniformly, before they are cut at the square.
    """
    sides = largest * 10 ** -random.random((count, 2))
    corners = random.uniform(0, extent, (count, 2))
    low, high = np.maximum(corners - sides / 2, 0), np.minimum(corners + sides / 2, extent)
    return np.concatenate([low, high], 1).astype(np.float32)
