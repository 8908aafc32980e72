"""Region proposal network (Ren et al. 2015, section 3.1): a small head scores and moves anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, no_type_check

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv import Conv
from vision_jax.models.terms import at_least_float32
from vision_jax.ops import (
    box_ioa,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    match,
    nms,
    pyramid_anchors,
    smooth_l1,
)
from vision_jax.ops.matching import BACKGROUND, sample_balanced
from vision_jax.types import Count, Fraction, Lengths, Mean, Positive, Proposals, UserError

SMOOTH_L1_BETA = 1 / 9  # where the quadratic part ends, in units of coded offsets


@no_type_check  # vmap and eval_shape build it of other things than arrays
@struct.dataclass
class ScoredAnchors:
    """The anchors of B images that share a canvas, level by level.

    Attributes:
        objectness: logits, [B, A] a level.
        deltas: coded offsets from the anchor to an object's box, [B, A, 4] a level.
        anchors: float32, canvas pixels, [A, 4] a level, the same for all images.
    """

    objectness: list[Float[Array, "b _a"]]
    deltas: list[Float[Array, "b _a 4"]]
    anchors: list[Float[np.ndarray, "_a 4"]]

    def end_to_end(self) -> tuple[Float[Array, "b a"], Float[Array, "b a 4"]]:
        """Objectness and offsets of all levels, one level after the other."""
        return jnp.concatenate(self.objectness, axis=1), jnp.concatenate(self.deltas, axis=1)


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
    def __call__(self, pyramid: Sequence[Float[Array, "b _ _ c"]], canvas: tuple[int, int]) -> ScoredAnchors:
        """Scores and moves the anchors of each level.

        Args:
            pyramid: feature maps, finest first.
            canvas: (height, width) of the images, pixels.

        Raises:
            UserError: there are not as many entries of `sizes` as levels.
        """
        levels = self.anchors(pyramid, canvas)
        small = nn.initializers.normal(0.01)
        count = len(self.aspect_ratios) * len(_several(self.sizes[0]))
        hidden = Conv(pyramid[0].shape[-1], 3, kernel_init=small, name="hidden")
        objectness = Conv(count, 1, kernel_init=small, name="objectness")
        deltas = Conv(count * 4, 1, kernel_init=small, name="deltas")
        maps = [nn.relu(hidden(level)) for level in pyramid]
        batch = pyramid[0].shape[0]
        return ScoredAnchors(
            [at_least_float32(objectness(m)).reshape(batch, -1) for m in maps],
            [at_least_float32(deltas(m)).reshape(batch, -1, 4) for m in maps],
            levels,
        )

    def anchors(
        self, pyramid: Sequence[Float[Array, "b _ _ c"]], canvas: tuple[int, int]
    ) -> list[Float[np.ndarray, "_ 4"]]:
        """The anchors of each level, float32, canvas pixels.

        Args:
            pyramid: feature maps, finest first; only their shapes matter.
            canvas: (height, width) of the images, pixels.

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
    """A level's sizes, also where there is one."""
    return sizes if isinstance(sizes, Sequence) else (sizes,)


def propose(
    objectness: Sequence[Float[Array | np.ndarray, " _a"]],
    deltas: Sequence[Float[Array | np.ndarray, "_a 4"]],
    anchors: Sequence[Float[np.ndarray, "_a 4"]],
    size: Int[Array | np.ndarray, "2"],
    pre_nms_top_k: int,
    post_nms_top_k: int,
    nms_threshold: float,
) -> Proposals:
    """Turns one image's scored anchors into proposals; no gradient flows back.

    Each level's best anchors are moved, clipped and thinned by NMS of their own; the best of all levels are
    kept (Lin et al. 2017, section 4.1).

    Args:
        objectness: logits, of each level.
        deltas: coded offsets, of each level.
        anchors: canvas pixels, of each level.
        size: (height, width) of the image's content, to which proposals are clipped.
        pre_nms_top_k: anchors of a level that enter its NMS, best first.
        post_nms_top_k: proposals of the image, over all levels.
        nms_threshold: IoU above which the worse of two proposals of a level goes.

    Returns:
        Of one image, [post_nms_top_k] or as many as there are anchors, best first.
    """
    boxes, scores, valid = [], [], []
    for logits, offsets, level in zip(objectness, deltas, anchors, strict=True):
        top, chosen = lax.top_k(lax.stop_gradient(logits), min(pre_nms_top_k, len(level)))
        moved = decode_boxes(lax.stop_gradient(offsets)[chosen], jnp.asarray(level)[chosen])
        moved = clip_boxes(moved, size)
        large = jnp.all(moved[:, 2:] - moved[:, :2] >= 1e-3, axis=-1)
        kept, keep = nms(moved, top, nms_threshold, min(post_nms_top_k, len(chosen)), valid=large)
        boxes.append(moved[kept])
        scores.append(jnp.where(keep, top[kept], -jnp.inf))
        valid.append(keep)
    scores = jnp.concatenate(scores)
    best, order = lax.top_k(scores, min(post_nms_top_k, len(scores)))
    return Proposals(
        jnp.concatenate(boxes)[order], jnp.where(jnp.isfinite(best), best, 0), jnp.concatenate(valid)[order]
    )


def overlaps_ignored(
    boxes: Float[Array, "n 4"], ignored: Float[Array, "g 4"], ignore: Bool[Array, " g"]
) -> Bool[Array, " n"]:
    """Which boxes lie by more than half of their area inside a region that is neither object nor background.

    Args:
        boxes: canvas pixels.
        ignored: the truth's boxes, canvas pixels.
        ignore: which of them are such regions (crowds, difficult objects).
    """
    return jnp.any((box_ioa(boxes, ignored) > 0.5) & ignore, axis=-1)


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
    """Objectness and box losses of one image (equation 1), over a balanced sample of anchors (section 3.1.3).

    Args:
        key: decides the sample.
        objectness: logits of all levels' anchors, end to end.
        deltas: their coded offsets.
        anchors: canvas pixels.
        iou: of truths and anchors.
        boxes, valid, ignore: the image's truth, canvas pixels.
        rpn: its thresholds, and how many anchors are sampled.

    Returns:
        `rpn_objectness`, cross-entropy, and `rpn_box`, smooth L1 of the positive anchors' offsets, both
        weighted by the number of sampled anchors.
    """
    matched = match(iou, valid, rpn.bg_iou_threshold, rpn.fg_iou_threshold, low_quality=True)
    negative = (matched == BACKGROUND) & ~overlaps_ignored(anchors, boxes, ignore)
    chosen, positive, sampled = sample_balanced(key, matched >= 0, negative, rpn.anchors_per_image, 0.5)
    cross_entropy = optax.sigmoid_binary_cross_entropy(objectness[chosen], positive.astype(jnp.float32))
    target = encode_boxes(boxes[jnp.maximum(matched[chosen], 0)], anchors[chosen])
    distance = smooth_l1(deltas[chosen], target, SMOOTH_L1_BETA).sum(-1)
    counted = Mean.over(cross_entropy, sampled)
    return {
        "rpn_objectness": counted,
        "rpn_box": Mean(jnp.sum(jnp.where(positive, distance, 0)), counted.weight),
    }
