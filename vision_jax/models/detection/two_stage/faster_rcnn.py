"""Faster R-CNN (Ren et al. 2015), on a feature pyramid (Lin et al. 2017, section 4) or on one feature map.

A region proposal network names some hundred boxes; each is pooled to a small grid from the level of the
pyramid that suits its size, classified, and moved once more. Two losses for the proposals, two for the boxes.

A batch of B images goes through these stages, each a public method on which other systems stand:

    features       images [B, H, W, 3] -> the neck's maps, [B, h, w, c] a level
    score_anchors  maps -> objectness [B, A] and offsets [B, A, 4] of each level's anchors
    propose        scored anchors -> R boxes an image
    sample         in training: proposals and truth -> S regions an image, at most a fraction of them positive
    pool           maps and boxes -> [B, R, size, size, c]
    classify       pooled regions -> features, logits [B, R, K+1] and offsets [B, R, K or 1, 4] of each
    postprocess    proposals, logits and offsets -> D detections an image

`box_losses` takes a batch from its images to the four losses, `detect` to its detections.

With `neck=SingleLevel("c4")`, a backbone of three stages and `head=ResidualHead()` it is the network that
Ren et al. and He et al. (2016) built on ResNets, whose last stage works on each region ("C4").
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.fpn import FPN
from vision_jax.layers.images import normalize
from vision_jax.layers.keys import fold_ids
from vision_jax.models.detection.two_stage.heads import BoxPredictor, MLPHead
from vision_jax.models.detection.two_stage.regions import (
    RegionScores,
    RoI,
    SampledRegions,
    pool_regions,
    postprocess,
    region_losses,
    sample_regions,
)
from vision_jax.models.detection.two_stage.rpn import RPN, ScoredAnchors, propose, rpn_loss
from vision_jax.models.protocols import Backbone, Maps, Neck, RegionHead
from vision_jax.models.terms import at_least_float32, over_images
from vision_jax.ops import box_iou
from vision_jax.types import Count, DetectionBatch, Detections, Fraction, Mean, Proposals


class TrainedRegions(NamedTuple):
    """What a batch gives on its way to the losses: further branches learn from the same regions.

    Attributes:
        maps: the neck's.
        regions: those sampled, S an image.
        scores: of the sampled regions.
    """

    maps: Maps
    regions: SampledRegions
    scores: RegionScores


class FasterRCNN(CheckedModule):
    """Faster R-CNN on any backbone.

    Attributes:
        backbone: normalized images -> {"c2": ..., "c5": ...}, of strides 4, 8, 16, 32.
        num_classes: K; "no object" is the head's own K+1st logit.
        neck: backbone's maps -> those that proposals come from, named by log2 of their strides; regions are
            pooled from all but the last, or from the only one.
        rpn: the proposal head; its sizes are for each of the neck's maps.
        head: (pooled regions, train) -> features of each, [n, f] or [n, h, w, f].
        roi: how regions are pooled: RoIAlign (He et al. 2017), by the mean of a bin's sampled values or by
            their maximum, or RoIPool (Girshick 2015).
        pooled_size: rows and columns of a pooled region.
        class_agnostic: one box for all classes instead of one for each.
        train_proposals, test_proposals: (a level's anchors before NMS, an image's proposals after it).
        rois_per_image: regions an image that the second stage's loss looks at.
        positive_fraction: at most this fraction of them is matched to an object.
        fg_iou_threshold: IoU from which a region counts as an object.
        score_threshold: detections below it are not reported.
        nms_threshold: IoU above which the worse of two detections of a class goes.
        max_detections: an image.
        pre_nms_top_k: best-scored (region, class) pairs an image that enter the last NMS.
    """

    backbone: Backbone
    num_classes: Count
    neck: Neck = FPN()
    rpn: RPN = RPN()
    head: RegionHead = MLPHead()
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

    def __call__(self, batch: DetectionBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Raw outputs by name, for the proposals of test time.

        Returns:
            the neck's maps (`p2`..`p6` of a pyramid); `rpn/objectness` [B, A] and `rpn/deltas` [B, A, 4], all
            levels end to end; `proposals/boxes` [B, R, 4], `/scores` (logits), `/valid`; `roi/logits`
            [B, R, K+1], the last class "no object"; `roi/deltas` [B, R, K or 1, 4].
        """
        maps = self.features(batch, train)
        scored = self.score_anchors(maps, batch)
        proposals = self.propose(scored, batch.size, self.test_proposals)
        scores = self.classify(self.pool(maps, proposals.boxes), train)
        objectness, deltas = scored.end_to_end()
        return {
            **maps,
            "rpn/objectness": objectness,
            "rpn/deltas": deltas,
            "proposals/boxes": proposals.boxes,
            "proposals/scores": proposals.scores,
            "proposals/valid": proposals.valid,
            "roi/logits": scores.logits,
            "roi/deltas": scores.deltas,
        }

    def loss(self, batch: DetectionBatch, train: bool = True) -> dict[str, Mean]:
        """The four losses: objectness and boxes of anchors, classes and boxes of regions.

        Each is summed over a random sample of anchors or regions of each image, which the stream `sample` and
        the example's id decide, and weighted by their number.
        """
        terms, _ = self.box_losses(batch, train)
        return over_images(terms, batch.example_valid)

    def predict(self, batch: DetectionBatch) -> Detections:
        """Detections in canvas pixels, inside each image's content, best first."""
        return self.detect(batch)[1]

    def box_losses(self, batch: DetectionBatch, train: bool = True) -> tuple[dict[str, Mean], TrainedRegions]:
        """The four losses of each image, totals and weights [B], and the regions they were taken from."""
        maps = self.features(batch, train)
        scored = self.score_anchors(maps, batch)
        proposals = self.propose(scored, batch.size, self.train_proposals)
        keys = jax.vmap(jax.random.split)(fold_ids(self.make_rng("sample"), batch.id))
        present = batch.example_valid[:, None]
        batch = replace(batch, valid=batch.valid & present, ignore=batch.ignore & present)
        terms = self.rpn_losses(keys[:, 0], scored, batch)
        regions = self.sample(keys[:, 1], proposals, batch)
        scores = self.classify(self.pool(maps, regions.boxes), train)
        terms |= region_losses(scores, regions)
        return terms, TrainedRegions(maps, regions, scores)

    def detect(self, batch: DetectionBatch) -> tuple[Maps, Detections]:
        """The neck's maps, and detections in canvas pixels, best first."""
        maps = self.features(batch)
        proposals = self.propose(self.score_anchors(maps, batch), batch.size, self.test_proposals)
        scores = self.classify(self.pool(maps, proposals.boxes))
        return maps, self.postprocess(proposals, scores, batch.size)

    def features(self, batch: DetectionBatch, train: bool = False) -> Maps:
        """The neck's maps of the normalized images, by name, finest first.

        Args:
            batch: images on one canvas.
            train: whether batch norms use this batch's statistics.
        """
        return self.neck(self.backbone(normalize(batch.image, batch.size), train), train)

    def score_anchors(self, maps: Maps, batch: DetectionBatch) -> ScoredAnchors:
        """Objectness and offsets of every anchor.

        Args:
            maps: the neck's.
            batch: whose canvas the anchors lie on.

        Raises:
            UserError: there are not as many sizes of anchors as maps.
        """
        height, width = batch.image.shape[1:3]
        return self.rpn(list(maps.values()), (height, width))

    def propose(
        self, scored: ScoredAnchors, size: Int[Array | np.ndarray, "b 2"], counts: tuple[int, int]
    ) -> Proposals:
        """The best anchors, moved, clipped and thinned by NMS; no gradient flows back.

        Args:
            scored: the RPN's answer.
            size: (height, width) of each image's content, pixels.
            counts: (a level's anchors before NMS, an image's proposals R after it).
        """

        def of_one(objectness, deltas, size):
            return propose(objectness, deltas, scored.anchors, size, *counts, self.rpn.nms_threshold)

        return jax.vmap(of_one)(scored.objectness, scored.deltas, size)

    def rpn_losses(
        self, keys: Key[Array, " b"], scored: ScoredAnchors, batch: DetectionBatch
    ) -> dict[str, Mean]:
        """Losses of the first stage, `rpn_objectness` and `rpn_box`: totals and weights are [b].

        Args:
            keys: of each image; they decide which anchors are sampled.
            scored: the RPN's answer.
            batch: with the truth.
        """
        anchors = jnp.concatenate([jnp.asarray(level) for level in scored.anchors])
        iou = jax.vmap(lambda boxes: box_iou(boxes, anchors))(batch.boxes)

        def of_one(key, objectness, deltas, iou, boxes, valid, ignore):
            return rpn_loss(key, objectness, deltas, anchors, iou, boxes, valid, ignore, self.rpn)

        truth = batch.boxes, batch.valid, batch.ignore
        return jax.vmap(of_one)(keys, *scored.end_to_end(), iou, *truth)

    def sample(self, keys: Key[Array, " b"], proposals: Proposals, batch: DetectionBatch) -> SampledRegions:
        """The regions that the second stage learns from, S = `rois_per_image` an image, positives first.

        Args:
            keys: of each image; they decide which regions are sampled.
            proposals: R an image.
            batch: with the truth, whose boxes are regions too.
        """

        def of_one(key, proposals, boxes, labels, valid, ignore):
            return sample_regions(
                key,
                proposals,
                boxes,
                labels,
                valid,
                ignore,
                num_classes=self.num_classes,
                rois_per_image=self.rois_per_image,
                positive_fraction=self.positive_fraction,
                fg_iou_threshold=self.fg_iou_threshold,
            )

        truth = batch.boxes, batch.labels, batch.valid, batch.ignore
        return jax.vmap(of_one)(keys, proposals, *truth)

    def pool(
        self, maps: Maps, boxes: Float[Array, "b r 4"], size: int | None = None
    ) -> Float[Array, "b r s s c"]:
        """Each region's features on a small grid (`pool_regions`).

        Args:
            maps: the neck's.
            boxes: canvas pixels; one that is not finite gives zeros, and its gradient costs nothing.
            size: rows and columns of the grid; `pooled_size` if None.
        """
        return pool_regions(maps, boxes, size or self.pooled_size, self.roi)

    def classify(self, pooled: Float[Array, "b r s s c"], train: bool = False) -> RegionScores:
        """Classes and offsets of pooled regions, float32 at least; the head sees all images' as one batch."""
        b, r = pooled.shape[:2]
        features = self.head(pooled.reshape(-1, *pooled.shape[2:]), train)
        logits, deltas = map(at_least_float32, self.predictor(features))
        return RegionScores(features, logits.reshape(b, r, -1), deltas.reshape(b, r, -1, 4))

    def postprocess(
        self, proposals: Proposals, scores: RegionScores, size: Int[Array | np.ndarray, "b 2"]
    ) -> Detections:
        """Detections in canvas pixels, best first, by NMS among those of a class.

        Args:
            proposals: the classified regions, R an image.
            scores: of them.
            size: (height, width) of each image's content, to which boxes are clipped.
        """

        def of_one(proposals, logits, deltas, size):
            return postprocess(
                proposals,
                logits,
                deltas,
                size,
                score_threshold=self.score_threshold,
                nms_threshold=self.nms_threshold,
                max_detections=self.max_detections,
                pre_nms_top_k=self.pre_nms_top_k,
            )

        return jax.vmap(of_one)(proposals, scores.logits, scores.deltas, size)
