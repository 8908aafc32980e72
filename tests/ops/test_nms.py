"""NMS against its definition: best first, box by box."""

import hypothesis.extra.numpy as hnp
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.ops import batched_nms, nms

THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
compiled = jax.jit(batched_nms, static_argnums=4)
four = jax.jit(nms, static_argnums=3)
slow = pytest.mark.slow
ALL = np.ones(4, bool)


def greedy(boxes, scores, groups, threshold, max_outputs, score_threshold=-np.inf, valid=None):
    """The definition, one box at a time, in float32: the indices kept."""
    if valid is None:
        valid = np.ones(len(boxes), bool)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    areas = sides[:, 0] * sides[:, 1]
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if not valid[i] or not scores[i] > score_threshold or len(kept) == max_outputs:
            continue
        low, high = np.maximum(boxes[i, :2], boxes[kept, :2]), np.minimum(boxes[i, 2:], boxes[kept, 2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        union = areas[i] + areas[kept] - shared
        iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        if not np.any((iou > np.float32(threshold)) & (groups[kept] == groups[i])):
            kept.append(int(i))
    return kept


def kept_by_nms(boxes, scores, groups, threshold, max_outputs, score_threshold=-np.inf, valid=None):
    """What `batched_nms` keeps, its padding checked and taken off."""
    if valid is None:
        valid = np.ones(len(boxes), bool)
    indices, there = compiled(boxes, scores, groups, threshold, max_outputs, score_threshold, valid)
    indices, there = np.asarray(indices), np.asarray(there)
    assert indices.shape == there.shape == (max_outputs,)
    assert indices.dtype == np.int32
    count = there.sum()
    assert there[:count].all()
    assert not indices[count:].any()
    return indices[:count].tolist()


def lattice_boxes(random, count, extent, smallest, largest):
    """Boxes on an eighth-of-a-pixel lattice, where float32 areas and intersections are exact."""
    corners = random.integers(0, extent * 8, (count, 2))
    sides = random.integers(smallest * 8, largest * 8 + 1, (count, 2))
    return (np.concatenate([corners, corners + sides], 1) / 8).astype(np.float32)


def chain(count):
    """Boxes of which each meets the next alone (IoU 7/13), the best at one end."""
    left = np.arange(count, dtype=np.float32) * 3
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], axis=1)
    return boxes, -np.arange(count, dtype=np.float32)


def test_nms_of_four_boxes_by_hand():
    # IoU of the first two is 50/150; the third is apart; the fourth is the third's copy.
    boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 15], [50, 50, 60, 60], [50, 50, 60, 60]], np.float32)
    scores = np.array([0.5, 0.9, 0.3, 0.3], np.float32)
    indices, there = four(boxes, scores, 0.3, 4, -np.inf, ALL)
    assert indices.tolist() == [1, 2, 0, 0]
    assert there.tolist() == [True, True, False, False]
    assert four(boxes, scores, 0.34, 4, -np.inf, ALL)[0].tolist() == [1, 0, 2, 0]
    indices, there = four(boxes, scores, 0.34, 2)  # of all boxes, whatever their scores
    assert indices.tolist() == [1, 0]
    assert np.all(there)


def test_an_iou_that_equals_the_threshold_does_not_suppress():
    # 100 x 1 against 100 x k: IoU is k / 100 exactly, rounded as the threshold is.
    boxes = np.array([[0, 0, 100, 1]] + [[0, 0, k, 1] for k in range(10, 100, 10)], np.float32)
    for k in range(1, 10):
        pair, groups = boxes[[0, k]], np.zeros(2, np.int32)
        scores = np.array([1, 0], np.float32)
        equal = np.float32(k / 10)
        assert kept_by_nms(pair, scores, groups, equal, 2) == [0, 1]
        assert kept_by_nms(pair, scores, groups, np.nextafter(equal, np.float32(0)), 2) == [0]


@pytest.mark.parametrize(
    "threshold", [pytest.param(t, marks=[] if t in (0.1, 0.5, 0.9) else slow) for t in THRESHOLDS]
)
@pytest.mark.parametrize("layout", ["crowd", "sparse", "chain", "copies"])
def test_equals_the_greedy_definition(layout, threshold):
    random = np.random.default_rng(round(threshold * 10))
    count = 300  # three blocks, the last one partial
    boxes = {
        "crowd": lambda: lattice_boxes(random, count, 60, 0, 60),  # some without area
        "sparse": lambda: lattice_boxes(random, count, 500, 4, 60),
        "chain": lambda: chain(count)[0],
        "copies": lambda: lattice_boxes(random, count, 60, 0, 60)[random.integers(0, 40, count)],
    }[layout]()
    scores = (random.integers(0, 50, count) / 64).astype(np.float32)  # many ties
    if layout == "chain":
        scores = chain(count)[1]
    valid = random.random(count) < 0.8
    groups = (
        random.integers(0, 3, count).astype(np.int32) if layout == "copies" else np.zeros(count, np.int32)
    )
    low = -np.inf if layout == "chain" else 0.1
    case = boxes, scores, groups, threshold
    expected = greedy(*case, count, low, valid)
    assert kept_by_nms(*case, count, low, valid) == expected
    # Fewer outputs are the beginning of the same list.
    assert kept_by_nms(*case, 20, low, valid) == expected[:20]


@pytest.mark.parametrize("count", [129, pytest.param(1, marks=slow), pytest.param(128, marks=slow)])
def test_a_chain_of_boxes_is_kept_across_blocks(count):
    boxes, scores = chain(count)
    groups = np.zeros(count, np.int32)
    assert kept_by_nms(boxes, scores, groups, 0.5, count + 3) == list(range(0, count, 2))


any_case = given(
    hnp.arrays(np.int32, (140, 2), elements=st.integers(0, 12)),
    hnp.arrays(np.int32, (140, 2), elements=st.integers(-1, 6)),
    hnp.arrays(np.int32, (140,), elements=st.integers(0, 5)),
    hnp.arrays(np.int32, (140,), elements=st.integers(0, 1)),
    hnp.arrays(np.bool_, (140,)),
    st.sampled_from(THRESHOLDS),
    st.sampled_from([-np.inf, 0.0, 0.5]),
)


def check_against_greedy(corners, sides, scores, groups, valid, threshold, low):
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    scores = (scores / 4).astype(np.float32)
    case = boxes, scores, groups, threshold, 140, low, valid
    assert kept_by_nms(*case) == greedy(*case)


@settings(max_examples=25, deadline=None)
@any_case
def test_equals_the_greedy_definition_on_any_boxes(corners, sides, scores, groups, valid, threshold, low):
    check_against_greedy(corners, sides, scores, groups, valid, threshold, low)


@slow
@settings(max_examples=100, deadline=None)
@any_case
def test_equals_the_greedy_definition_on_many_boxes(corners, sides, scores, groups, valid, threshold, low):
    check_against_greedy(corners, sides, scores, groups, valid, threshold, low)


def test_score_threshold_is_strict_and_nan_is_never_kept():
    boxes = np.array([[0, 0, 1, 1], [2, 0, 3, 1], [4, 0, 5, 1], [6, 0, 7, 1]], np.float32)
    scores = np.array([0.5, 0.75, np.nan, 0.25], np.float32)
    indices, there = map(np.asarray, four(boxes, scores, 0.5, 4, 0.5, ALL))
    assert indices[there].tolist() == [1]
    indices, there = map(np.asarray, four(boxes, scores, 0.5, 4, -np.inf, ALL))
    assert indices[there].tolist() == [1, 0, 3]


def test_boxes_without_area_neither_suppress_nor_are_suppressed():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5], [8, 8, 2, 2]], np.float32)
    indices, there = four(boxes, np.array([0.2, 0.9, 0.8, 0.7], np.float32), 0.1, 4, -np.inf, ALL)
    assert np.all(there)
    assert indices.tolist() == [1, 2, 3, 0]


def test_an_invalid_box_suppresses_nothing():
    boxes = np.tile(np.array([0, 0, 10, 10], np.float32), (4, 1))
    scores = np.array([0.9, 0.3, 0.2, 0.1], np.float32)
    valid = np.array([False, False, True, True])
    indices, there = map(np.asarray, four(boxes, scores, 0.5, 4, -np.inf, valid))
    assert indices[there].tolist() == [2]


def test_nothing_in_nothing_out():
    four_boxes, scores = np.zeros((4, 4), np.float32), np.zeros(4, np.float32)
    for indices, there in (
        four(four_boxes[:0], scores[:0], 0.5, 4),
        four(four_boxes, scores, 0.5, 4, -np.inf, ~ALL),
    ):
        assert indices.tolist() == [0, 0, 0, 0]
        assert not np.any(there)
    assert four(four_boxes, scores, 0.5, 0)[0].shape == (0,)


def test_groups_are_suppressed_one_by_one():
    random = np.random.default_rng(0)
    # Far from the origin, where moving groups apart by an offset would round the boxes.
    boxes = lattice_boxes(random, 300, 60, 1, 60) + np.float32(100_000)
    scores = random.permutation(300).astype(np.float32)
    groups = random.choice(np.array([-1, 0, 7, 2**30], np.int32), 300)
    one_by_one = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        one_by_one += members[greedy(boxes[members], scores[members], groups[members], 0.5, 300)].tolist()
    expected = sorted(one_by_one, key=lambda i: -scores[i])
    assert kept_by_nms(boxes, scores, groups, 0.5, 300) == expected


def test_images_under_vmap_are_as_alone():
    random = np.random.default_rng(1)
    boxes = np.stack([lattice_boxes(random, 300, extent, 1, 60) for extent in (20, 100, 800)])
    boxes[2] = chain(300)[0]
    scores = random.random((3, 300)).astype(np.float32)
    valid = np.arange(300) < np.array([[300], [150], [0]])
    together = jax.jit(jax.vmap(lambda b, s, v: nms(b, s, 0.5, 40, valid=v)))
    indices, there = map(np.asarray, together(boxes, scores, valid))
    for image in range(3):
        groups = np.zeros(300, np.int32)
        expected = greedy(boxes[image], scores[image], groups, 0.5, 40, valid=valid[image])
        assert indices[image][there[image]].tolist() == expected
    assert there.sum(axis=1).tolist()[2] == 0
