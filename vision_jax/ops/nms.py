"""Non-maximum suppression (NMS): of boxes with a large IoU, the one with the highest score.

The greedy definition: boxes are taken best first, and a box is kept unless its IoU with one kept before it is
more than a threshold. Going box by box is slow on every device, so boxes go in blocks. A block is first
compared with the boxes kept so far, never with all. Inside the block, "kept unless a better kept one
suppresses it" is then applied to all its boxes at once, until nothing changes: the best box is right after
the first round, and at least one more in every further round, so what is reached is the greedy answer,
exactly. Blocks stop coming once enough boxes are kept. So the work is one IoU for each pair of a box and a
kept box, and memory is never N x N.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Num

from vision_jax.ops.arguments import check_lengths, promoted
from vision_jax.ops.boxes import box_iou

_BLOCK = 128


def nms(
    boxes: Num[Array | np.ndarray, "n 4"],
    scores: Num[Array | np.ndarray, " _n"],
    iou_threshold: float | Float[Array, ""],
    max_outputs: int,
    score_threshold: float | Float[Array, ""] = -jnp.inf,
    valid: Bool[Array | np.ndarray, " _n"] | None = None,
) -> tuple[Int[Array, "{max_outputs}"], Bool[Array, "{max_outputs}"]]:
    """Greedy NMS.

    Args:
        boxes: candidates, of any dtype; the IoU of boxes without area is 0.
        scores: the better box wins; of equal ones, the first. A NaN is never kept.
        iou_threshold: a box is suppressed by a better kept one if their IoU is *more* than this, 0..1.
        max_outputs: how many boxes are kept at most.
        score_threshold: a box is a candidate if its score is *greater*.
        valid: which boxes exist; all of them if None.

    Returns:
        int32 indices of the kept boxes, best first, and which of them are there; padding has index 0.

    Raises:
        ValueError: not one score (group, `valid`) a box, or `max_outputs` is negative. While tracing.
    """
    check_lengths(boxes=boxes, scores=scores, valid=valid)
    groups = jnp.zeros(scores.shape, jnp.int32)
    return batched_nms(boxes, scores, groups, iou_threshold, max_outputs, score_threshold, valid)


def batched_nms(
    boxes: Num[Array | np.ndarray, "n 4"],
    scores: Num[Array | np.ndarray, " _n"],
    groups: Int[Array | np.ndarray, " _n"],
    iou_threshold: float | Float[Array, ""],
    max_outputs: int,
    score_threshold: float | Float[Array, ""] = -jnp.inf,
    valid: Bool[Array | np.ndarray, " _n"] | None = None,
) -> tuple[Int[Array, "{max_outputs}"], Bool[Array, "{max_outputs}"]]:
    """Greedy NMS among the boxes of each group (a class, a pyramid level).

    Groups are compared as numbers; boxes are not moved apart, which would cost them their precision.

    Args:
        boxes: candidates, of any dtype; the IoU of boxes without area is 0.
        scores: the better box wins; of equal ones, the first. A NaN is never kept.
        groups: boxes of different groups do not suppress each other.
        iou_threshold: a box is suppressed by a better kept one if their IoU is *more* than this, 0..1.
        max_outputs: how many boxes are kept at most, over all groups: the best ones.
        score_threshold: a box is a candidate if its score is *greater*.
        valid: which boxes exist; all of them if None.

    Returns:
        int32 indices of the kept boxes, best first, and which of them are there; padding has index 0.

    Raises:
        ValueError: not one score (group, `valid`) a box, or `max_outputs` is negative. While tracing.
    """
    check_lengths(boxes=boxes, scores=scores, groups=groups, valid=valid)
    if max_outputs < 0:
        raise ValueError(f"max_outputs is {max_outputs}; it is a number of boxes, at least 0")
    count = scores.shape[0]
    most = min(max_outputs, count)
    if most == 0:
        return jnp.zeros(max_outputs, jnp.int32), jnp.zeros(max_outputs, bool)
    boxes, scores, groups = jnp.asarray(boxes), jnp.asarray(scores), jnp.asarray(groups)
    candidate = scores > score_threshold
    if valid is not None:
        candidate &= valid
    candidates = jnp.sum(candidate, dtype=jnp.int32)
    order = _best_first(scores, candidate)

    # One row per coordinate, so that neighbors in memory are what the inner loops run over.
    padding = -count % _BLOCK
    (corners,) = promoted(boxes[order])
    corners = jnp.pad(corners.T, ((0, 0), (0, padding)))
    groups = jnp.pad(groups[order], (0, padding))
    within = jnp.arange(_BLOCK, dtype=jnp.int32)
    room = most + -most % _BLOCK

    def suppresses(corners: Array, groups: Array, other_corners: Array, other_groups: Array) -> Array:
        """Whether boxes [4, n] suppress others [4, m]: [n, m]."""
        close = box_iou(corners.T, other_corners.T) > iou_threshold
        return close & (groups[:, None] == other_groups[None, :])

    def unfinished(state):
        start, found, *_ = state
        return (start < candidates) & (found < most)

    def next_block(state):
        start, found, kept_corners, kept_groups, kept_ranks = state
        block_corners, block_groups = _block(corners, start), _block(groups, start)
        rank = start + within

        def against_kept(state):
            kept_start, alive = state
            beaten = suppresses(
                _block(kept_corners, kept_start), _block(kept_groups, kept_start), block_corners, block_groups
            )
            return kept_start + _BLOCK, alive & ~jnp.any(beaten, axis=0)

        alive = lax.while_loop(
            lambda state: state[0] < found, against_kept, (jnp.int32(0), rank < candidates)
        )[1]
        beats = suppresses(block_corners, block_groups, block_corners, block_groups)
        keep = _fixpoint(alive, beats & (within[:, None] < within[None, :]))
        slot = jnp.where(keep, found + jnp.cumsum(keep, dtype=jnp.int32) - 1, room)
        return (
            start + _BLOCK,
            found + jnp.sum(keep, dtype=jnp.int32),
            kept_corners.at[:, slot].set(block_corners, mode="drop"),
            kept_groups.at[slot].set(block_groups, mode="drop"),
            kept_ranks.at[slot].set(rank, mode="drop"),
        )

    none = jnp.int32(0)
    # Positions not yet taken hold boxes without area, whose IoU is 0.
    nothing = (jnp.zeros((4, room), corners.dtype), jnp.zeros(room, groups.dtype), jnp.zeros(room, jnp.int32))
    _, found, _, _, ranks = lax.while_loop(unfinished, next_block, (none, none, *nothing))
    there = jnp.arange(max_outputs) < found
    indices = jnp.pad(order[ranks[:most]].astype(jnp.int32), (0, max_outputs - most))
    return jnp.where(there, indices, 0), there


def _best_first(scores: Num[Array, " n"], candidate: Bool[Array, " n"]) -> Int[Array, " n"]:
    """The order of the candidates' scores, of equal ones the first; the other boxes come last."""
    if jnp.issubdtype(scores.dtype, jnp.floating):
        return jnp.argsort(jnp.where(candidate, scores, -jnp.inf), descending=True, stable=True)
    # No integer is below all, and as floats large ones would be equal.
    order = jnp.argsort(scores, descending=True, stable=True)
    return order[jnp.argsort(~candidate[order], stable=True)]


def _block(array: Num[Array, "*rows n"], start: Int[Array, ""]) -> Num[Array, "*rows block"]:
    """The `_BLOCK` entries of the last axis that follow `start`."""
    return lax.dynamic_slice_in_dim(array, start, _BLOCK, axis=-1)


def _fixpoint(alive: Bool[Array, " n"], beats: Bool[Array, "n n"]) -> Bool[Array, " n"]:
    """Which of the boxes `alive` greedy NMS keeps, `beats[i, j]` implying that i is better than j."""

    def changed(state):
        before, now = state
        return jnp.any(before != now)

    def again(state):
        _, now = state
        return now, alive & ~jnp.any(beats & now[:, None], axis=0)

    return lax.while_loop(changed, again, (jnp.zeros_like(alive), alive))[1]
