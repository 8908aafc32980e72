"""Which anchor answers for which object, and which anchors a loss looks at (Ren et al. 2015, 3.1.2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Key, Num, UInt32

from vision_jax.ops.arguments import check_lengths, promoted

BACKGROUND = -1
BETWEEN = -2


def match(
    iou: Num[Array | np.ndarray, "g a"],
    valid: Bool[Array | np.ndarray, " _g"],
    low: float,
    high: float,
    low_quality: bool = False,
) -> Int[Array, " a"]:
    """Gives each anchor the truth with which its IoU is largest, if it is large enough.

    Args:
        iou: of every truth with every anchor, 0..1; the thresholds are rounded as its dtype is.
        valid: which truths exist; the others are never matched.
        low: an anchor whose best IoU is below it is background.
        high: an anchor whose best IoU is at or above it is matched.
        low_quality: whether every anchor whose IoU with some truth is that truth's largest (all of them, at
            a tie) is matched however small that is, if it is above 0. As in torchvision it is matched to the
            truth of the *anchor's* largest IoU, which may be another one.

    Returns:
        int32: the index of the matched truth (the lowest at a tie), BACKGROUND, or BETWEEN for a best
        IoU in low..high. All BACKGROUND where no truth is valid; empty where there is no anchor.

    Raises:
        ValueError: `low` is above `high` or below 0, or `valid` has not one entry a truth.
    """
    if not 0 <= low <= high:
        raise ValueError(f"0 <= low <= high is expected, not low={low}, high={high}")
    check_lengths(iou=iou, valid=valid)
    if 0 in iou.shape:
        return jnp.full(iou.shape[1], BACKGROUND, jnp.int32)
    iou = jnp.asarray(iou)
    if not jnp.issubdtype(iou.dtype, jnp.floating):
        (iou,) = promoted(iou)
    iou = jnp.where(jnp.asarray(valid)[:, None], iou, -1)
    best_truth = jnp.argmax(iou, axis=0).astype(jnp.int32)
    best = jnp.max(iou, axis=0)
    matched = jnp.where(best >= high, best_truth, jnp.where(best >= low, BETWEEN, BACKGROUND))
    if low_quality:
        best_of_truth = jnp.max(iou, axis=1, keepdims=True)
        wanted = jnp.any((iou == best_of_truth) & (iou > 0), axis=0)
        matched = jnp.where(wanted, best_truth, matched)
    return matched


def sample_balanced(
    key: Key[Array, ""] | UInt32[Array, "2"],
    positive: Bool[Array | np.ndarray, " a"],
    negative: Bool[Array | np.ndarray, " _a"],
    size: int,
    positive_fraction: float,
) -> tuple[Int[Array, "{size}"], Bool[Array, "{size}"], Bool[Array, "{size}"]]:
    """Samples a fixed number of anchors: positives up to a fraction, negatives for the rest.

    Every subset of the sampled number of positives is equally likely, and so for the negatives. Where there
    are too few negatives, the rest is padding: no further positive takes their positions.

    Args:
        key: decides the sample, alone; fold the example's id into it.
        positive: the anchors matched to a truth.
        negative: the background anchors; none is also positive.
        size: how many to sample at most.
        positive_fraction: at most `int(size * positive_fraction)` of them are positive.

    Returns:
        int32 indices, whether each is a positive, and whether each was sampled at all: positives first,
        then negatives, then padding with index 0.

    Raises:
        ValueError: `positive` and `negative` differ in length, `size` is negative, or the fraction is outside
            0..1.
    """
    check_lengths(positive=positive, negative=negative)
    if size < 0 or not 0 <= positive_fraction <= 1:
        raise ValueError(f"size {size} and positive_fraction {positive_fraction}: at least 0, and in 0..1")
    positive, negative = jnp.asarray(positive).astype(bool), jnp.asarray(negative).astype(bool)
    count = positive.shape[0]
    most_positives = min(int(size * positive_fraction), count)
    most_negatives = min(size, count)
    ranks = jax.random.uniform(key, (count,))
    # Ranks are in 0..1, -1 for those that take no part; one serves both groups, which are disjoint.
    sampled_positives = lax.top_k(jnp.where(positive, ranks, -1), most_positives)[1]
    sampled_negatives = lax.top_k(jnp.where(negative, ranks, -1), most_negatives)[1]
    positives = jnp.minimum(jnp.sum(positive, dtype=jnp.int32), most_positives)
    negatives = jnp.minimum(jnp.sum(negative, dtype=jnp.int32), size - positives)

    position = jnp.arange(size, dtype=jnp.int32)
    is_positive = position < positives
    valid = position < positives + negatives
    padded_positives = jnp.zeros(size, jnp.int32).at[:most_positives].set(sampled_positives)
    padded_negatives = jnp.zeros(size, jnp.int32).at[:most_negatives].set(sampled_negatives)
    # Negatives follow the positives: a rotation, since position - positives is in range wherever it is read.
    indices = jnp.where(is_positive, padded_positives, jnp.roll(padded_negatives, positives))
    return jnp.where(valid, indices, 0), is_positive, valid
