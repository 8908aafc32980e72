"""Matching and sampling of anchors: worked numbers, the definition, and the fairness of the sample."""

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.ops import BACKGROUND, BETWEEN, match, sample_balanced

matched = jax.jit(match, static_argnums=(2, 3, 4))
sampled = jax.jit(sample_balanced, static_argnums=(3, 4))

IOU = np.array(
    [
        [0.80, 0.45, 0.20, 0.00, 0.10, 0.00],
        [0.75, 0.50, 0.30, 0.00, 0.30, 0.00],
        [0.10, 0.60, 0.40, 0.00, 0.00, 0.00],
    ],
    np.float32,
)
ALL = np.ones(3, bool)


def test_match_worked_by_hand():
    # Best IoUs: 0.80 (truth 0), 0.60 (truth 2), 0.40 (truth 2), 0, 0.30 (truth 1), 0.
    assert matched(IOU, ALL, 0.4, 0.7, False).tolist() == [0, BETWEEN, BETWEEN, -1, -1, -1]
    assert matched(IOU, ALL, 0.5, 0.5, False).tolist() == [0, 2, -1, -1, -1, -1]


def test_low_quality_matches_go_to_the_anchors_own_best_truth():
    # Truth 1's largest IoU is with anchor 0, which is truth 0's; truth 2's best anchor is 1.
    assert matched(IOU, ALL, 0.4, 0.7, True).tolist() == [0, 2, BETWEEN, -1, -1, -1]
    # Without truth 0, anchor 0 is truth 1's.
    assert matched(IOU, np.array([False, True, True]), 0.4, 0.9, True).tolist() == [1, 2, -2, -1, -1, -1]


def test_low_quality_matches_take_all_anchors_of_a_tie_and_none_of_iou_0():
    iou = np.array([[0.2, 0.0, 0.2, 0.1, 0.0, 0.0], [0.0] * 6, [0.0] * 6], np.float32)
    assert matched(iou, ALL, 0.4, 0.7, True).tolist() == [0, -1, 0, -1, -1, -1]


def test_thresholds_belong_to_the_better_side():
    iou = np.array([[0.25, 0.5, 0.75, 0.0, 0.0, 0.0]] * 3, np.float32)
    assert matched(iou, ALL, 0.25, 0.75, False).tolist() == [BETWEEN, BETWEEN, 0, -1, -1, -1]


@pytest.mark.parametrize("low_quality", [False, True])
def test_padded_truths_are_never_matched(low_quality):
    assert matched(IOU, ~ALL, 0.4, 0.7, low_quality).tolist() == [BACKGROUND] * 6
    none = match(jnp.zeros((0, 6)), np.zeros(0, bool), 0.4, 0.7, low_quality)
    assert none.dtype == jnp.int32
    assert none.tolist() == [BACKGROUND] * 6
    # Even where all IoUs are 0 and the threshold is 0.
    assert matched(np.zeros((3, 6), np.float32), ~ALL, 0.0, 0.0, low_quality).tolist() == [BACKGROUND] * 6


def test_match_wants_ordered_thresholds():
    for low, high in [(0.7, 0.3), (-0.1, 0.5)]:
        with pytest.raises(ValueError, match="0 <= low <= high"):
            match(jnp.asarray(IOU), ALL, low, high)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int32, (3, 6), elements=st.integers(0, 8)),
    hnp.arrays(np.bool_, (3,)),
    st.booleans(),
)
def test_match_is_its_definition(eighths, valid, low_quality):
    iou = (eighths / 8).astype(np.float32)
    expected = []
    for a in range(6):
        truths = [g for g in range(3) if valid[g]]
        best = max(truths, key=lambda g: (iou[g, a], -g), default=None)
        if best is None:
            expected.append(BACKGROUND)
            continue
        wanted = low_quality and any(iou[g, a] == iou[g].max() > 0 for g in truths)
        if iou[best, a] >= 0.75 or wanted:
            expected.append(best)
        else:
            expected.append(BETWEEN if iou[best, a] >= 0.25 else BACKGROUND)
    assert matched(iou, valid, 0.25, 0.75, low_quality).tolist() == expected


def masks(positives, negatives, count=40):
    """Disjoint masks of so many anchors, scattered."""
    kinds = np.random.default_rng(0).permutation(
        [1] * positives + [2] * negatives + [0] * (count - positives - negatives)
    )
    return kinds == 1, kinds == 2


@pytest.mark.parametrize(
    ("positives", "negatives", "counts"),
    [
        (20, 20, (4, 12)),  # plenty of both
        (3, 30, (3, 13)),  # negatives take the positions of missing positives
        (30, 5, (4, 5)),  # positives do not take the positions of missing negatives
        (0, 20, (0, 16)),
        (20, 0, (4, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_the_sample_has_exact_counts(positives, negatives, counts):
    positive, negative = masks(positives, negatives)
    indices, is_positive, valid = map(np.asarray, sampled(jax.random.key(3), positive, negative, 16, 0.25))
    assert indices.dtype == np.int32
    assert (is_positive.sum(), valid.sum()) == (counts[0], sum(counts))
    assert is_positive.tolist() == [i < counts[0] for i in range(16)]
    assert valid.tolist() == [i < sum(counts) for i in range(16)]
    assert positive[indices[is_positive]].all()
    assert negative[indices[valid & ~is_positive]].all()
    assert len(set(indices[valid])) == sum(counts)
    assert not indices[~valid].any()


def test_more_positions_than_anchors():
    positive, negative = np.array([True, False, True]), np.array([False, True, False])
    indices, is_positive, valid = sampled(jax.random.key(0), positive, negative, 8, 0.5)
    assert sorted(indices[:2].tolist()) == [0, 2]
    assert indices[2] == 1
    assert is_positive.tolist() == [True, True] + [False] * 6
    assert valid.tolist() == [True] * 3 + [False] * 5


def test_every_subset_is_sampled_equally_often():
    # 2 of 5 positives and 3 of 6 negatives: 10 and 20 subsets, 4000 samples.
    positive, negative = masks(5, 6, 16)
    keys = jax.random.split(jax.random.key(0), 4000)
    sample = jax.jit(jax.vmap(lambda key: sample_balanced(key, positive, negative, 5, 0.4)[0]))
    indices = np.asarray(sample(keys))
    for group, subsets, limit in [(indices[:, :2], 10, 27.9), (indices[:, 2:], 20, 43.8)]:
        _, counts = np.unique(np.sort(group, axis=1), axis=0, return_counts=True)
        assert len(counts) == subsets
        expected = len(keys) / subsets
        # The limits are the chi-squared distribution's 99.9 % points at 9 and 19 degrees of freedom.
        assert np.sum((counts - expected) ** 2 / expected) < limit


def test_the_sample_depends_on_the_key_alone():
    positive, negative = masks(20, 20)
    first, again, other = (
        sampled(jax.random.key(seed), positive, negative, 16, 0.25)[0] for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist() != other.tolist()
    keys = jax.random.split(jax.random.key(5), 3)
    together = jax.jit(jax.vmap(lambda key: sample_balanced(key, positive, negative, 16, 0.25)[0]))(keys)
    alone = [sampled(key, positive, negative, 16, 0.25)[0].tolist() for key in keys]
    assert together.tolist() == alone
