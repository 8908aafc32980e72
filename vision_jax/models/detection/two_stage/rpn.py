"""Region proposal network (Ren et al. 2015, section 3.1): a small head scores and moves anchors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv import Conv
from vision_jax.ops import clip_boxes, decode_boxes, encode_boxes, match, nms, pyramid_anchors, smooth_l1
from vision_jax.ops.matching import BACKGROUND, sample_balanced
from vision_jax.types import Count, Fraction, Lengths, Mean, Positive, Proposals, UserError

SMOOTH_L1_BETA = 1 / 9  # where the quadratic part ends, in units of coded offsets


class RPN(CheckedModule):
    """One head shared by all levels of a pyramid.

    Attributes:
        sizes: side of a square anchor, canvas pixels: for each level one, or equally many.
        aspect_ratios: height / width.
        nms_threshold: IoU above which the worse of two proposals of a level goes.
        bg_iou_threshold: IoU with every object below which an anchor is background.
        fg_iou_threshold: IoU with some object from which an anchor is positive.
        anchors_per_image: anchors an image that the loss looks at, at most half of them positive.
    """

    sizes: Annotated[Sequence[float | Sequence[float]], Lengths()] = (32, 64, 128, 256, 512)
    aspect_ratios: Annotated[Sequence[Positive], Lengths()] = (0.5, 1.0, 2.0)
    nms_threshold: Fraction = 0.7
    bg_iou_threshold: Fraction = 0.3
    fg_iou_threshold: Fraction = 0.7
    anchors_per_image: Count = 256

    def __post_init__(self) -> None:
        sides = [side for level in self.sizes for side in _several(level)]
        if not sides or not all(math.isfinite(side) and side > 0 for side in sides):
            raise UserError(f"RPN.sizes is {self.sizes}: give numbers above 0")
        if len({len(_several(level)) for level in self.sizes}) > 1:
            raise UserError(f"RPN.sizes is {self.sizes}: give each level equally many: one head serves all")
        super().__post_init__()

    @nn.compact
    def __call__(self, pyramid: Sequence[Float[Array, "b _ _ c"]]) -> dict[str, list[Array]]:
        """Scores and moves the anchors of each level.

        Returns:
            `objectness`: logits, [B, H*W*A] a level; `deltas`: coded offsets, [B, H*W*A, 4] a level.
        """
        small = nn.initializers.normal(0.01)
        anchors = len(self.aspect_ratios) * len(_several(self.sizes[0]))
        hidden = Conv(pyramid[0].shape[-1], 3, kernel_init=small, name="hidden")
        objectness = Conv(anchors, 1, kernel_init=small, name="objectness")
        deltas = Conv(anchors * 4, 1, kernel_init=small, name="deltas")
        maps = [nn.relu(hidden(level)) for level in pyramid]
        batch = pyramid[0].shape[0]
        return {
            "objectness": [objectness(m).astype(jnp.float32).reshape(batch, -1) for m in maps],
            "deltas": [deltas(m).astype(jnp.float32).reshape(batch, -1, 4) for m in maps],
        }

    def anchors(
        self, pyramid: Sequence[Float[Array, "b _ _ c"]], canvas: tuple[int, int]
    ) -> list[Float[np.ndarray, "_ 4"]]:
        """The anchors of each level, canvas pixels.

        Raises:
            UserError: there are not as many entries of `sizes` as levels.
        """
        if len(self.sizes) != len(pyramid):
            raise UserError(
                f"RPN.sizes is {self.sizes}, of {len(self.sizes)} levels, but there are {len(pyramid)} "
                "feature maps: give a size for each"
            )
        sizes = [(level.shape[1], level.shape[2]) for level in pyramid]
        return pyramid_anchors(canvas, sizes, [_several(size) for size in self.sizes], self.aspect_ratios)


def _several(sizes: float | Sequence[float]) -> Sequence[float]:
    return sizes if isinstance(sizes, Sequence) else (sizes,)


def propose(
    outputs: Mapping[str, Sequence[Array]],
    anchors: Sequence[np.ndarray],
    size: Array,
    pre_nms: int,
    post_nms: int,
    nms_threshold: float,
) -> Proposals:
    """Turns one image's scored anchors into proposals; no gradient flows back.

    Args:
        outputs: `objectness` and `deltas` of each level, without the batch axis.
        anchors: of each level.
        size: (height, width) of the image's content, to which proposals are clipped.
        pre_nms: anchors of a level that enter its non-maximum suppression, best first.
        post_nms: proposals an image, over all levels.
        nms_threshold: IoU of a level's suppression.
    """
    boxes, scores, valid = [], [], []
    for objectness, deltas, level in zip(outputs["objectness"], outputs["deltas"], anchors, strict=True):
        top, chosen = lax.top_k(lax.stop_gradient(objectness), min(pre_nms, len(level)))
        moved = decode_boxes(lax.stop_gradient(deltas)[chosen], jnp.asarray(level)[chosen])
        moved = clip_boxes(moved, size)
        large = jnp.all(moved[:, 2:] - moved[:, :2] >= 1e-3, axis=-1)
        kept, keep = nms(moved, top, nms_threshold, min(post_nms, len(chosen)), valid=large)
        boxes.append(moved[kept])
        scores.append(jnp.where(keep, top[kept], -jnp.inf))
        valid.append(keep)
    scores = jnp.concatenate(scores)
    best, order = lax.top_k(scores, min(post_nms, len(scores)))
    return Proposals(
        jnp.concatenate(boxes)[order], jnp.where(jnp.isfinite(best), best, 0), jnp.concatenate(valid)[order]
    )


def overlaps_ignored(
    boxes: Float[Array, "n 4"], ignored: Float[Array, "g 4"], ignore: Bool[Array, " g"]
) -> Bool[Array, " n"]:
    """Which boxes lie by more than half inside a region that is neither object nor background."""
    low = jnp.maximum(boxes[:, None, :2], ignored[:, :2])
    high = jnp.minimum(boxes[:, None, 2:], ignored[:, 2:])
    inside = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    area = jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    return jnp.any((inside > 0.5 * area[:, None]) & ignore, axis=-1)


def rpn_loss(
    key: Key[Array, ""],
    objectness: Float[Array, " a"],
    deltas: Float[Array, "a 4"],
    anchors: Float[Array, "a 4"],
    iou: Float[Array, "g a"],
    boxes: Float[Array, "g 4"],
    valid: Bool[Array, " g"],
    ignore: Bool[Array, " g"],
    rpn: RPN,
) -> dict[str, Mean]:
    """Objectness and box losses of one image (equation 1), over a balanced sample of anchors.

    Args:
        key: decides the sample.
        objectness, deltas: of all levels, end to end.
        anchors: likewise.
        iou: of truths and anchors.
        boxes, valid, ignore: the image's truth.
        rpn: its thresholds.
    """
    matched = match(iou, valid, rpn.bg_iou_threshold, rpn.fg_iou_threshold, low_quality=True)
    negative = (matched == BACKGROUND) & ~overlaps_ignored(anchors, boxes, ignore)
    chosen, positive, drawn = sample_balanced(key, matched >= 0, negative, rpn.anchors_per_image, 0.5)
    cross_entropy = optax.sigmoid_binary_cross_entropy(objectness[chosen], positive.astype(jnp.float32))
    target = encode_boxes(boxes[jnp.maximum(matched[chosen], 0)], anchors[chosen])
    distance = smooth_l1(deltas[chosen], target, SMOOTH_L1_BETA).sum(-1)
    counted = Mean.over(cross_entropy, drawn)
    return {
        "rpn_objectness": counted,
        "rpn_box": Mean(jnp.sum(jnp.where(positive, distance, 0)), counted.weight),
    }
