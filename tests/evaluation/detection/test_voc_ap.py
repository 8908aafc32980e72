"""VOC AP against values worked by hand and a slow, obvious reference."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.evaluation import VocEvaluator, voc_average_precision, voc_hits


def inclusive_iou(a, b):
    """The development kit's IoU: 1-based corners that both belong to the box."""
    a, b = (np.array([box[0] + 1, box[1] + 1, box[2], box[3]], float) for box in (a, b))
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area_a + area_b - width * height)


def slow_reference(records, found, label):
    """Walks down the ranked list of a class, as the paper tells it."""
    ranked = []
    for position, (_, (boxes, scores, labels)) in enumerate(zip(records, found, strict=True)):
        ranked += [
            (score, position, box) for box, score, k in zip(boxes, scores, labels, strict=True) if k == label
        ]
    ranked.sort(key=lambda entry: -entry[0])
    taken, right, wrong, points = set(), 0, 0, []
    wanted = sum(int(((r.labels == label) & ~r.ignore).sum()) for r in records)
    for _, position, box in ranked:
        record = records[position]
        rivals = [
            (inclusive_iou(np.float32(box), record.boxes[g]), g)
            for g in np.flatnonzero(record.labels == label)
        ]
        iou, best = max(rivals, key=lambda r: (r[0], -r[1]), default=(0.0, -1))
        if iou >= 0.5:
            if record.ignore[best]:
                continue
            if (position, best) in taken:
                wrong += 1
            else:
                taken.add((position, best))
                right += 1
        else:
            wrong += 1
        points.append((right, right / (right + wrong)))
    if not wanted:
        return math.nan, math.nan
    area, before = 0.0, 0
    for reached, _ in points:
        if reached > before:
            area += max(p for r, p in points if r >= reached) * (reached - before) / wanted
            before = reached
    eleven = [max((p for r, p in points if 10 * r >= t * wanted), default=0.0) for t in range(11)]
    return area, sum(eleven) / 11


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_slow_reference(seed, split, predictions):
    records, found = split(seed)
    evaluator = VocEvaluator(records, ("a", "b", "c", "absent"))
    evaluator.add(*predictions(records[:7], found[:7], slots=200))
    evaluator.add(*predictions(records[7:], found[7:], slots=200))
    report = evaluator.report()
    area, eleven = np.array([slow_reference(records, found, k) for k in range(3)]).T
    assert 0.05 < area.mean() < 0.95
    np.testing.assert_allclose(report.metrics["VOC/mAP"], area.mean(), atol=1e-12)
    np.testing.assert_allclose(report.metrics["VOC/mAP11"], eleven.mean(), atol=1e-12)
    row = next(line for line in report.tables["per_class_ap_voc.md"].splitlines() if line.startswith("| b"))
    assert [cell.strip() for cell in row.split("|")[2:4]] == [f"{area[1]:.3f}", f"{eleven[1]:.3f}"]


def test_voc_ap_of_three_detections_by_hand():
    # Right, wrong, right, of 4 objects: precision 1 up to recall 1/4, then 2/3 up to 1/2, then 0.
    right = np.array([True, False, True])
    assert voc_average_precision(right, 4) == pytest.approx(1 / 4 + 2 / 3 / 4)
    # Recalls 0, 0.1, 0.2 see 1; 0.3, 0.4, 0.5 see 2/3; the other five see 0.
    assert voc_average_precision(right, 4, eleven_point=True) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert voc_average_precision(np.zeros(0, bool), 4) == 0
    assert voc_average_precision(np.zeros(0, bool), 4, eleven_point=True) == 0
    assert math.isnan(voc_average_precision(right, 0))


def test_a_recall_of_exactly_three_tenths_reaches_that_point():
    # 0.1 * 3 is more than 0.3 in floating point.
    right = np.array([True] * 3)
    assert voc_average_precision(right, 10, eleven_point=True) == pytest.approx(4 / 11)


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_perfect_ranking_is_the_best_one(hits, missed):
    right = np.array(hits, bool)
    positives = int(right.sum()) + missed
    if positives == 0:
        return
    value = voc_average_precision(right, positives)
    best = voc_average_precision(np.sort(right)[::-1], positives)
    assert value <= best + 1e-12
    assert best == pytest.approx(right.sum() / positives)


def test_a_detection_does_not_turn_to_the_next_object():
    # Of both boxes the first object has the largest IoU; VOC calls the second one wrong, COCO would give it
    # object two.
    truth = np.array([[0, 0, 100, 100], [0, 0, 100, 60]], np.float32)
    boxes = np.array([[0, 0, 100, 100], [0, 0, 100, 90]], np.float32)
    right, counts = voc_hits(boxes, truth, np.zeros(2, bool))
    np.testing.assert_array_equal(right, [True, False])
    np.testing.assert_array_equal(counts, [True, True])


def test_difficult_objects_do_not_count(record, predictions):
    truth = [record(0, [[0, 0, 50, 50], [100, 100, 200, 200]], [0, 0], [True, False])]
    boxes = [[0, 0, 50, 50], [0, 0, 50, 49], [100, 100, 200, 200]]
    evaluator = VocEvaluator(truth, ("thing",))
    evaluator.add(*predictions(truth, [(boxes, [0.9, 0.8, 0.7], [0, 0, 0])]))
    report = evaluator.report()
    assert report.metrics == {"VOC/mAP": 1.0, "VOC/mAP11": 1.0}


@given(st.lists(st.integers(0, 20), min_size=8, max_size=8))
@settings(max_examples=60, deadline=None)
def test_iou_is_the_development_kits(values):
    x1, y1, w1, h1, x2, y2, w2, h2 = values
    a = [x1, y1, x1 + w1 + 1, y1 + h1 + 1]
    b = [x2, y2, x2 + w2 + 1, y2 + h2 + 1]
    expected = inclusive_iou(a, b)
    arrays = np.array([a], np.float32), np.array([b], np.float32)
    for threshold, reached in ((expected, expected > 0), (np.nextafter(expected, 2), False)):
        right, _ = voc_hits(*arrays, np.zeros(1, bool), iou_threshold=float(threshold) or 1e-9)
        assert right[0] == reached
