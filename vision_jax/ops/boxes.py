"""Boxes: IoU and its kin, and offsets between a box and its anchor.

A box is (x1, y1, x2, y2) in absolute pixels, x2 and y2 exclusive. A side that is not positive counts
as 0, so a box without pixels has area 0 and an IoU of 0 with all; nothing here divides by zero, in values
or in gradients, because padding is made of such boxes.

Boxes may be of any dtype. They are computed with in float32, or in float64 where one of the arrays is, and
that is the dtype of areas, IoUs, offsets and decoded boxes. An array whose last axis is not 4 is a
ValueError, as are shapes that do not broadcast.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from vision_jax.ops.arguments import promoted

DEFAULT_MAX_LOG_SCALE = math.log(1000 / 16)


def box_area(boxes: Num[Array | np.ndarray, "*shape 4"]) -> Float[Array, "*shape"]:
    """The area of each box, in pixels squared; 0 where a side is not positive.

    Args:
        boxes: any number of boxes.

    Returns:
        Their areas, at least 0, in float32 (float64 of float64 boxes).
    """
    (boxes,) = promoted(boxes)
    x1, y1, x2, y2 = _sides(boxes)
    return jnp.maximum(x2 - x1, 0) * jnp.maximum(y2 - y1, 0)


def box_iou(a: Num[Array | np.ndarray, "n 4"], b: Num[Array | np.ndarray, "m 4"]) -> Float[Array, "n m"]:
    """Intersection over union of every box of one set with every box of another.

    Args:
        a: boxes.
        b: boxes.

    Returns:
        Values in 0..1, float32 (float64 of float64 boxes); 0 for a pair whose union is empty.
    """
    a, b = promoted(a, b)
    intersection, union = _intersection_and_union(a, b)
    return _ratio(intersection, union)


def box_ioa(a: Num[Array | np.ndarray, "n 4"], b: Num[Array | np.ndarray, "m 4"]) -> Float[Array, "n m"]:
    """Intersection over the first box's area of every box of one set with every box of another.

    It says how much of a box lies inside another, as COCO's crowd regions are compared (Lin et al. 2014).
    Quotients are correctly rounded: one is above 0.5 where, and only where, the intersection is more than
    half of the area.

    Args:
        a: boxes, by whose areas intersections are divided.
        b: boxes.

    Returns:
        Values in 0..1, float32 (float64 of float64 boxes); 0 for a box of `a` without area.
    """
    a, b = promoted(a, b)
    intersection, _ = _intersection_and_union(a, b)
    # XLA divides by constants, which areas of anchors are, through rounded reciprocals; by this it does not.
    area = box_area(a)[:, None] + 0 * intersection
    return _ratio(intersection, area)


def box_giou(a: Num[Array | np.ndarray, "n 4"], b: Num[Array | np.ndarray, "m 4"]) -> Float[Array, "n m"]:
    """Generalized intersection over union (Rezatofighi et al. 2019, algorithm 1) of every pair.

    It is the IoU less the fraction of the pair's common hull that neither box covers, so that boxes
    which do not touch still have a gradient that moves them together.

    Args:
        a: boxes.
        b: boxes.

    Returns: Values in -1..1, float32 (float64 of float64 boxes). The subtracted fraction is 0 for a pair
        whose hull is empty.
    """
    a, b = promoted(a, b)
    intersection, union = _intersection_and_union(a, b)
    ax1, ay1, ax2, ay2 = (side[:, None] for side in _sides(a))
    bx1, by1, bx2, by2 = (side[None, :] for side in _sides(b))
    width = jnp.maximum(jnp.maximum(ax2, bx2) - jnp.minimum(ax1, bx1), 0)
    height = jnp.maximum(jnp.maximum(ay2, by2) - jnp.minimum(ay1, by1), 0)
    hull = width * height
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def clip_boxes(
    boxes: Num[Array | np.ndarray, "*shape 4"],
    size: tuple[float, float] | Num[Array | np.ndarray, "2"],
) -> Num[Array, "*shape 4"]:
    """Cuts boxes at the border of an image.

    Args:
        boxes: any number of boxes.
        size: the image's (height, width) in pixels.

    Returns:
        The boxes with x in 0..width and y in 0..height, in their own dtype. One that lay outside has no area
        left.
    """
    boxes = jnp.stack(_sides(jnp.asarray(boxes)), axis=-1)
    # As an array: Python's 300 does not fit beside uint8 boxes.
    height, width = jnp.asarray(size)
    ends = jnp.stack([width, height, width, height])
    return jnp.clip(boxes, 0, ends).astype(boxes.dtype)


def encode_boxes(
    boxes: Num[Array | np.ndarray, "*#shape 4"],
    anchors: Num[Array | np.ndarray, "*#shape 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Array, "... 4"]:
    """The offsets that take each anchor to its box (Girshick et al. 2014, appendix C).

    (dx, dy) is the difference of the centers in units of the anchor's sides, (dw, dh) the logarithm of
    the ratio of sides, each times its weight.

    Args:
        boxes: the targets.
        anchors: where the offsets start; its leading axes broadcast against those of `boxes`.
        weights: factors of (dx, dy, dw, dh); larger ones make a loss on offsets heavier.

    Returns:
        The offsets, float32 (float64 where an argument is), always finite: along an axis on which the box or
        the anchor has no positive side (padding), the logarithm is taken to be 0, and an anchor's empty side
        counts as 1 pixel.
    """
    boxes, anchors = promoted(boxes, anchors)
    jnp.broadcast_shapes(boxes.shape, anchors.shape)
    bx, by, bw, bh = _centers(boxes)
    ax, ay, aw, ah = _centers(anchors)
    wx, wy, ww, wh = weights
    return jnp.stack(
        [
            wx * (bx - ax) / jnp.where(aw > 0, aw, 1),
            wy * (by - ay) / jnp.where(ah > 0, ah, 1),
            ww * _log_ratio(bw, aw),
            wh * _log_ratio(bh, ah),
        ],
        axis=-1,
    )


def decode_boxes(
    deltas: Num[Array | np.ndarray, "*#shape 4"],
    anchors: Num[Array | np.ndarray, "*#shape 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    max_log_scale: float = DEFAULT_MAX_LOG_SCALE,
) -> Float[Array, "... 4"]:
    """The boxes that offsets lead to from their anchors: the inverse of `encode_boxes`.

    Args:
        deltas: (dx, dy, dw, dh), times the weights.
        anchors: where the offsets start; its leading axes broadcast against those of `deltas`, so that
            deltas [R, K, 4] of K classes take anchors [R, 1, 4].
        weights: the factors that `encode_boxes` was given.
        max_log_scale: dw and dh are cut here, after the weights, so that an untrained layer cannot
            make a box infinitely large.

    Returns:
        The boxes, float32 (float64 where an argument is); not clipped to any image.
    """
    deltas, anchors = promoted(deltas, anchors)
    jnp.broadcast_shapes(deltas.shape, anchors.shape)
    dx, dy, dw, dh = _sides(deltas)
    ax, ay, aw, ah = _centers(anchors)
    wx, wy, ww, wh = weights
    x = ax + dx / wx * aw
    y = ay + dy / wy * ah
    half_width = 0.5 * aw * jnp.exp(jnp.minimum(dw / ww, max_log_scale))
    half_height = 0.5 * ah * jnp.exp(jnp.minimum(dh / wh, max_log_scale))
    return jnp.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=-1)


def _sides(boxes: Num[Array, "..."]) -> tuple[Array, Array, Array, Array]:
    """The four numbers of each box [..., 4], as four arrays [...]. A ValueError where they are not four."""
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes are (x1, y1, x2, y2), but the array's shape is {list(boxes.shape)}")
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _centers(boxes: Float[Array, "*shape 4"]) -> tuple[Array, Array, Array, Array]:
    """Center x and y, width and height of each box, in pixels, as four arrays [...]."""
    x1, y1, x2, y2 = _sides(boxes)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height


def _intersection_and_union(
    a: Float[Array, "n 4"], b: Float[Array, "m 4"]
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """Areas that both and that either of a pair's boxes cover, in pixels squared."""
    ax1, ay1, ax2, ay2 = (side[:, None] for side in _sides(a))
    bx1, by1, bx2, by2 = (side[None, :] for side in _sides(b))
    width = jnp.maximum(jnp.minimum(ax2, bx2) - jnp.maximum(ax1, bx1), 0)
    height = jnp.maximum(jnp.minimum(ay2, by2) - jnp.maximum(ay1, by1), 0)
    intersection = width * height
    return intersection, box_area(a)[:, None] + box_area(b)[None, :] - intersection


def _ratio(numerator: Float[Array, "*shape"], denominator: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The quotient, 0 where the denominator is not positive; the inner `where` keeps gradients finite."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1), 0)


def _log_ratio(side: Float[Array, "*#shape"], anchor_side: Float[Array, "*#shape"]) -> Float[Array, "..."]:
    """log(side / anchor_side), 0 where either is not positive."""
    positive = (side > 0) & (anchor_side > 0)
    return jnp.where(positive, jnp.log(jnp.where(positive, side, 1) / jnp.where(positive, anchor_side, 1)), 0)
