"""What region-based detectors do with regions beside classifying them: sample, pool, compare, postprocess.

Functions without parameters, on one image or on a batch as their shapes say.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, no_type_check

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from vision_jax.models.detection.two_stage.rpn import SMOOTH_L1_BETA, overlaps_ignored
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
from vision_jax.types import Detections, Mean, Proposals

RoI = Literal["align", "align_max", "pool"]

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of the second stage's coded offsets (Girshick 2015)


@no_type_check  # vmap and eval_shape build it of other things than arrays
@struct.dataclass
class SampledRegions:
    """The regions of each image that the second stage learns from: positives first, then background.

    Attributes:
        boxes: float32, canvas pixels; no gradient flows back through them.
        labels: int32 class of the matched object, K ("no object") where not positive.
        targets: coded offsets from the box to the matched object's, where positive.
        truth: int32 index of the matched object, where positive.
        positive: which are matched to an object.
        sampled: which are there; the others are padding.
    """

    boxes: Float[Array, "b s 4"]
    labels: Int[Array, "b s"]
    targets: Float[Array, "b s 4"]
    truth: Int[Array, "b s"]
    positive: Bool[Array, "b s"]
    sampled: Bool[Array, "b s"]


@no_type_check  # vmap and eval_shape build it of other things than arrays
@struct.dataclass
class RegionScores:
    """What a detector says of R regions of each of B images.

    Attributes:
        features: the head's, of all images' regions end to end, [B * R, f] or [B * R, h, w, f].
        logits: of the K classes and, last, of "no object".
        deltas: coded offsets from the region to the object's box, for each class or one for all.
    """

    features: Float[Array, "n *_hwf"]
    logits: Float[Array, "b r outputs"]
    deltas: Float[Array, "b r _k 4"]


def sample_regions(
    key: Key[Array, ""],
    proposals: Proposals,
    boxes: Float[Array, "g 4"],
    labels: Int[Array, " g"],
    valid: Bool[Array, " g"],
    ignore: Bool[Array, " g"],
    num_classes: int,
    rois_per_image: int,
    positive_fraction: float,
    fg_iou_threshold: float,
) -> SampledRegions:
    """One image's regions to learn from, of its proposals and its objects' own boxes (Girshick 2015, 2.3).

    Args:
        key: decides the sample.
        proposals: of one image, [r].
        boxes, labels, valid, ignore: the image's truth, canvas pixels.
        num_classes: K, the label of "no object".
        rois_per_image: regions to sample.
        positive_fraction: at most this fraction of them are positive.
        fg_iou_threshold: IoU with an object from which a region is positive; below it is background, unless
            it lies in an ignored region.

    Returns:
        Of one image, [rois_per_image].
    """
    regions = jnp.concatenate([boxes, proposals.boxes])
    exists = jnp.concatenate([valid, proposals.valid])
    matched = match(box_iou(boxes, regions), valid, fg_iou_threshold, fg_iou_threshold)
    negative = exists & (matched == BACKGROUND) & ~overlaps_ignored(regions, boxes, ignore)
    chosen, positive, sampled = sample_balanced(
        key, exists & (matched >= 0), negative, rois_per_image, positive_fraction
    )
    truth = jnp.maximum(matched[chosen], 0)
    return SampledRegions(
        boxes=lax.stop_gradient(regions[chosen]),
        labels=jnp.where(positive, labels[truth], num_classes),
        targets=encode_boxes(boxes[truth], regions[chosen], BOX_WEIGHTS),
        truth=truth,
        positive=positive,
        sampled=sampled,
    )


def pool_regions(
    maps: Mapping[str, Float[Array, "b _h _w c"]],
    boxes: Float[Array, "b r 4"],
    size: int,
    roi: RoI = "align",
) -> Float[Array, "b r {size} {size} c"]:
    """Each region's features on a small grid, from the level of the pyramid that suits its size.

    Args:
        maps: named by a letter and log2 of their strides. Regions are pooled from all but the last (Lin et
            al. 2017, section 4.2), or from the only one.
        boxes: canvas pixels.
        size: rows and columns of the grid.
        roi: RoIAlign (He et al. 2017), by the mean of a bin's sampled values or by their maximum, or RoIPool
            (Girshick 2015).
    """
    names = list(maps)[:-1] or list(maps)
    scales = [2.0 ** -int(name[1:]) for name in names]
    levels = [maps[name] for name in names]
    if roi == "pool":
        return jax.vmap(lambda levels, boxes: multilevel_roi_pool(levels, boxes, size, scales))(levels, boxes)
    align = partial(multilevel_roi_align, reduce="max" if roi == "align_max" else "mean")
    return jax.vmap(lambda levels, boxes: align(levels, boxes, size, scales))(levels, boxes)


def region_losses(scores: RegionScores, regions: SampledRegions) -> dict[str, Mean]:
    """The second stage's losses, image by image (Girshick 2015, section 2.3, equations 1 to 3).

    Args:
        scores: of the sampled regions.
        regions: the sampled regions.

    Returns:
        `roi_class`, cross-entropy, and `roi_box`, smooth L1 of the positive regions' offsets: sums [b],
        both weighted by the number of sampled regions.
    """
    labels, classes = regions.labels, scores.logits.shape[-1] - 1
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(scores.logits, labels)
    own = jnp.zeros_like(labels) if scores.deltas.shape[2] == 1 else labels % classes
    moved = jnp.take_along_axis(scores.deltas, own[..., None, None], axis=2)[..., 0, :]
    distance = smooth_l1(moved, regions.targets, SMOOTH_L1_BETA).sum(-1)
    count = regions.sampled.sum(-1).astype(jnp.float32)
    return {
        "roi_class": Mean(jnp.where(regions.sampled, cross_entropy, 0).sum(-1), count),
        "roi_box": Mean(jnp.where(regions.positive, distance, 0).sum(-1), count),
    }


def postprocess(
    proposals: Proposals,
    logits: Float[Array, "r outputs"],
    deltas: Float[Array, "r _k 4"],
    size: Int[Array | np.ndarray, "2"],
    score_threshold: float,
    nms_threshold: float,
    max_detections: int,
    pre_nms_top_k: int,
) -> Detections:
    """One image's detections: the best (region, class) pairs that no better one of the class covers.

    Args:
        proposals: the regions.
        logits: of K classes and, last, of "no object".
        deltas: coded offsets, for each class or one for all.
        size: (height, width) of the image's content, to which boxes are clipped.
        score_threshold: probability that a detection exceeds.
        nms_threshold: IoU above which the worse of two detections of a class goes.
        max_detections: how many the answer has room for.
        pre_nms_top_k: best-scored pairs that enter NMS.

    Returns:
        Of one image, [max_detections], best first.
    """
    classes = logits.shape[1] - 1
    probabilities = nn.softmax(logits)[:, :-1]
    probabilities = jnp.where(proposals.valid[:, None], probabilities, 0)
    scores, pairs = lax.top_k(probabilities.reshape(-1), min(pre_nms_top_k, probabilities.size))
    region, label = pairs // classes, pairs % classes
    chosen = deltas[region, jnp.zeros_like(label) if deltas.shape[1] == 1 else label]
    boxes = clip_boxes(decode_boxes(chosen, proposals.boxes[region], BOX_WEIGHTS), size)
    large = jnp.all(boxes[:, 2:] - boxes[:, :2] >= 1e-2, axis=-1)
    kept, valid = batched_nms(boxes, scores, label, nms_threshold, max_detections, score_threshold, large)
    return Detections(
        boxes=jnp.where(valid[:, None], boxes[kept], 0),
        scores=jnp.where(valid, scores[kept], 0),
        labels=jnp.where(valid, label[kept], -1),
        valid=valid,
    )
