"""Faster R-CNN (Ren et al. 2015), on a feature pyramid (Lin et al. 2017, section 4) or on one feature map.

A region proposal network names some hundred boxes; each is pooled to a small grid from the level of the
pyramid that suits its size, classified, and moved once more. Two losses for the proposals, two for the boxes.

With `neck=SingleLevel("c4")`, a backbone of three stages and `head=ResidualHead()` it is the network that
Ren et al. and He et al. (2016) built on ResNets, whose last stage works on each region ("C4").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.fpn import FPN
from vision_jax.layers.images import normalize
from vision_jax.layers.keys import fold_ids
from vision_jax.models.detection.two_stage.heads import BoxPredictor, MLPHead
from vision_jax.models.detection.two_stage.rpn import (
    RPN,
    SMOOTH_L1_BETA,
    overlaps_ignored,
    propose,
    rpn_loss,
)
from vision_jax.ops import (
    batched_nms,
    box_iou,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    match,
    multilevel_roi_align,
    multilevel_roi_pool,
    smooth_l1,
)
from vision_jax.ops.matching import BACKGROUND, sample_balanced
from vision_jax.types import Count, DetectionBatch, Detections, Fraction, Mean, Proposals

RoI = Literal["align", "align_max", "pool"]

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the second stage's coded offsets (Girshick 2015)


class FasterRCNN(CheckedModule):
    """Faster R-CNN on any backbone.

    Attributes:
        backbone: normalised images -> {"c2": ..., "c5": ...}, of strides 4, 8, 16, 32.
        num_classes: K; "no object" is the head's own K+1st logit.
        neck: backbone's maps -> those that proposals come from, named by log2 of their strides; regions are
            pooled from all but the last, or from the only one.
        rpn: the proposal head; its sizes are for each of the neck's maps.
        head: (pooled regions, train) -> features of each, [n, f] or [n, h, w, f].
        roi: how regions are pooled: RoIAlign (He et al. 2017), by the mean of a bin's samples or by their
            maximum, or RoIPool (Girshick 2015).
        pooled_size: rows and columns of a pooled region.
        class_agnostic: one box for all classes instead of one for each.
        train_proposals, test_proposals: (a level's anchors before suppression, an image's proposals after).
        rois_per_image: regions an image that the second stage's loss looks at.
        positive_fraction: at most this share of them matched to an object.
        fg_iou_threshold: overlap from which a region counts as an object.
        score_threshold: detections below it are not reported.
        nms_threshold: IoU above which the worse of two detections of a class goes.
        max_detections: an image.
        pre_nms_top_k: best-scored (region, class) pairs an image that enter the last suppression.
    """

    backbone: nn.Module
    num_classes: Count
    neck: nn.Module = FPN()
    rpn: RPN = RPN()
    head: nn.Module = MLPHead()
    roi: RoI = "align"
    pooled_size: Count = 7
    class_agnostic: bool = False
    train_proposals: tuple[Count, Count] = (2000, 2000)
    test_proposals: tuple[Count, Count] = (1000, 1000)
    rois_per_image: Count = 512
    positive_fraction: Fraction = 0.25
    fg_iou_threshold: Fraction = 0.5
    score_threshold: Fraction = 0.05
    nms_threshold: Fraction = 0.5
    max_detections: Count = 100
    pre_nms_top_k: Count = 2000

    def setup(self) -> None:
        self.predictor = BoxPredictor(self.num_classes, self.class_agnostic)

    def __call__(self, batch: DetectionBatch, train: bool = False) -> dict[str, Array]:
        """Raw outputs by name, for the proposals of test time.

        Returns:
            the neck's maps (`p2`..`p6` of a pyramid); `rpn/objectness` [B, A] and `rpn/deltas` [B, A, 4], all
            levels end to end; `proposals/boxes` [B, R, 4], `/scores` (logits), `/valid`; `roi/logits`
            [B, R, K+1], the last class "no object"; `roi/deltas` [B, R, K or 1, 4].
        """
        maps = self._maps(batch, train)
        raw, anchors = self._score_anchors(maps, batch)
        proposals = self._propose(raw, anchors, batch, self.test_proposals)
        _, logits, deltas = self._classify(maps, proposals.boxes, train)
        return {
            **maps,
            "rpn/objectness": jnp.concatenate(raw["objectness"], axis=1),
            "rpn/deltas": jnp.concatenate(raw["deltas"], axis=1),
            "proposals/boxes": proposals.boxes,
            "proposals/scores": proposals.scores,
            "proposals/valid": proposals.valid,
            "roi/logits": logits,
            "roi/deltas": deltas,
        }

    def loss(self, batch: DetectionBatch, train: bool = True) -> dict[str, Mean]:
        """The four losses: objectness and boxes of anchors, classes and boxes of regions.

        Each is summed over a random sample of anchors or regions of each image, drawn from the stream
        `sample` and the example's id, and weighted by their number.
        """
        _, terms, _, _ = self._box_losses(batch, train)
        return over_images(terms, batch)

    def predict(self, batch: DetectionBatch) -> Detections:
        """Detections in canvas pixels, inside each image's content, best first."""
        return self._detections(batch)[1]

    def _maps(self, batch: DetectionBatch, train: bool) -> dict[str, Array]:
        return self.neck(self.backbone(normalize(batch.image, batch.size), train), train)

    def _box_losses(self, batch: DetectionBatch, train: bool):
        """The neck's maps, the four losses as sums an image [B], the sampled regions and their features."""
        maps = self._maps(batch, train)
        raw, anchors = self._score_anchors(maps, batch)
        proposals = self._propose(raw, anchors, batch, self.train_proposals)
        keys = jax.vmap(jax.random.split)(fold_ids(self.make_rng("sample"), batch.id))
        present = batch.example_valid[:, None]
        valid, ignore = batch.valid & present, batch.ignore & present

        every_anchor = jnp.concatenate([jnp.asarray(level) for level in anchors])
        iou = jax.vmap(lambda boxes: box_iou(boxes, every_anchor))(batch.boxes)

        def first_stage(key, objectness, deltas, iou, boxes, valid, ignore):
            return rpn_loss(key, objectness, deltas, every_anchor, iou, boxes, valid, ignore, self.rpn)

        objectness, deltas = (jnp.concatenate(raw[name], axis=1) for name in ("objectness", "deltas"))
        terms = jax.vmap(first_stage)(keys[:, 0], objectness, deltas, iou, batch.boxes, valid, ignore)

        regions = jax.vmap(self._sample_regions)(
            keys[:, 1], proposals, batch.boxes, batch.labels, valid, ignore
        )
        features, logits, moved = self._classify(maps, regions["boxes"], train)
        terms |= self._second_stage(logits, moved, regions)
        return maps, terms, regions, features

    def _detections(self, batch: DetectionBatch) -> tuple[dict[str, Array], Detections]:
        maps = self._maps(batch, train=False)
        raw, anchors = self._score_anchors(maps, batch)
        proposals = self._propose(raw, anchors, batch, self.test_proposals)
        _, logits, deltas = self._classify(maps, proposals.boxes, train=False)
        return maps, jax.vmap(self._detect)(proposals, logits, deltas, batch.size)

    def _score_anchors(self, maps: dict[str, Array], batch: DetectionBatch):
        levels = list(maps.values())
        height, width = batch.image.shape[1:3]
        return self.rpn(levels), self.rpn.anchors(levels, (height, width))

    def _propose(self, raw, anchors, batch: DetectionBatch, counts: tuple[int, int]) -> Proposals:
        threshold = self.rpn.nms_threshold
        return jax.vmap(lambda raw, size: propose(raw, anchors, size, *counts, threshold))(raw, batch.size)

    def _classify(self, maps: dict[str, Array], boxes: Array, train: bool) -> tuple[Array, Array, Array]:
        """Pools and classifies [B, R, 4] boxes: the head's features [B * R, ...], [B, R, K+1], [B, R, _, 4].

        The head sees all images' regions as one batch.
        """
        pooled = self._pool(maps, boxes, self.pooled_size)
        features = self.head(pooled.reshape(-1, *pooled.shape[2:]), train)
        logits, deltas = self.predictor(features)
        b, r = boxes.shape[:2]
        return features, _float32(logits).reshape(b, r, -1), _float32(deltas).reshape(b, r, -1, 4)

    def _pool(self, maps: dict[str, Array], boxes: Array, size: int) -> Array:
        """[B, R, 4] boxes -> [B, R, size, size, C], from all maps but the last, or from the only one."""
        names = list(maps)[:-1] or list(maps)
        scales = [2.0 ** -int(name[1:]) for name in names]
        levels: Sequence[Array] = [maps[name] for name in names]
        if self.roi == "pool":
            return jax.vmap(lambda levels, boxes: multilevel_roi_pool(levels, boxes, size, scales))(
                levels, boxes
            )
        align = partial(multilevel_roi_align, reduce="max" if self.roi == "align_max" else "mean")
        return jax.vmap(lambda levels, boxes: align(levels, boxes, size, scales))(levels, boxes)

    def _sample_regions(self, key, proposals: Proposals, boxes, labels, valid, ignore) -> dict[str, Array]:
        """One image's regions to learn from: proposals and truths, a share of them positive, these first."""
        regions = jnp.concatenate([boxes, proposals.boxes])
        exists = jnp.concatenate([valid, proposals.valid])
        matched = match(box_iou(boxes, regions), valid, self.fg_iou_threshold, self.fg_iou_threshold)
        negative = exists & (matched == BACKGROUND) & ~overlaps_ignored(regions, boxes, ignore)
        chosen, positive, drawn = sample_balanced(
            key, exists & (matched >= 0), negative, self.rois_per_image, self.positive_fraction
        )
        truth = jnp.maximum(matched[chosen], 0)
        return {
            "boxes": lax.stop_gradient(regions[chosen]),
            "labels": jnp.where(positive, labels[truth], self.num_classes),
            "targets": encode_boxes(boxes[truth], regions[chosen], BOX_WEIGHTS),
            "truth": truth,
            "positive": positive,
            "drawn": drawn,
        }

    def _second_stage(self, logits: Array, deltas: Array, regions: dict[str, Array]) -> dict[str, Mean]:
        """Sums an image, [B], of the class and box losses."""
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, regions["labels"])
        labels = regions["labels"]
        own = jnp.zeros_like(labels) if self.class_agnostic else labels % self.num_classes
        moved = jnp.take_along_axis(deltas, own[..., None, None], axis=2)[..., 0, :]
        distance = smooth_l1(moved, regions["targets"], SMOOTH_L1_BETA).sum(-1)
        drawn = regions["drawn"].sum(-1).astype(jnp.float32)
        return {
            "roi_class": Mean(jnp.where(regions["drawn"], cross_entropy, 0).sum(-1), drawn),
            "roi_box": Mean(jnp.where(regions["positive"], distance, 0).sum(-1), drawn),
        }

    def _detect(self, proposals: Proposals, logits: Array, deltas: Array, size: Array) -> Detections:
        """One image's detections: the best (region, class) pairs that no better one of the class covers."""
        probabilities = nn.softmax(logits)[:, :-1]
        probabilities = jnp.where(proposals.valid[:, None], probabilities, 0)
        scores, pairs = lax.top_k(probabilities.reshape(-1), min(self.pre_nms_top_k, probabilities.size))
        region, label = pairs // self.num_classes, pairs % self.num_classes
        chosen = deltas[region, jnp.zeros_like(label) if self.class_agnostic else label]
        boxes = clip_boxes(decode_boxes(chosen, proposals.boxes[region], BOX_WEIGHTS), size)
        large = jnp.all(boxes[:, 2:] - boxes[:, :2] >= 1e-2, axis=-1)
        kept, valid = batched_nms(
            boxes, scores, label, self.nms_threshold, self.max_detections, self.score_threshold, large
        )
        return Detections(
            boxes=jnp.where(valid[:, None], boxes[kept], 0),
            scores=jnp.where(valid, scores[kept], 0),
            labels=jnp.where(valid, label[kept], -1),
            valid=valid,
        )


def over_images(terms: dict[str, Mean], batch: DetectionBatch) -> dict[str, Mean]:
    """Adds up the images that are there."""
    return jax.tree.map(lambda sums: jnp.sum(jnp.where(batch.example_valid, sums, 0)), terms)


def _float32(x: Array) -> Array:
    """What losses and scores are computed in, whatever the parameters' precision."""
    return x.astype(jnp.float32)
