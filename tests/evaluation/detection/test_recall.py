"""Recall of boxes without regard to their classes, by hand."""

import numpy as np
import pytest

from tests.batches import detection_of
from vision_jax.data.records import DetectionRecord
from vision_jax.evaluation import read_per_image
from vision_jax.evaluation.detection.recall import RecallEvaluator
from vision_jax.types import Detections


def reported(truth, boxes, ignore=None):
    truth, boxes = (np.asarray(b, np.float32).reshape(-1, 4) for b in (truth, boxes))
    n = len(truth)
    ignore = np.zeros(n, bool) if ignore is None else np.asarray(ignore)
    record = DetectionRecord(
        id=7,
        name="seven.jpg",
        width=64,
        height=64,
        boxes=truth.astype(np.float64),
        labels=np.zeros(n, np.int32),
        ignore=ignore,
        area=np.ones(n),
    )
    batch = detection_of(
        np.zeros((1, 64, 64, 3), np.uint8),
        truth[None],
        np.zeros((1, n)),
        id=np.array([7]),
        valid=~ignore[None],
        ignore=ignore[None],
    )
    m = len(boxes)
    found = Detections(
        boxes=boxes[None],
        scores=np.linspace(1, 0.1, m, dtype=np.float32)[None],
        labels=np.full((1, m), 3, np.int32),
        valid=np.ones((1, m), bool),
    )
    evaluator = RecallEvaluator([record])
    evaluator.add(batch, found)
    return evaluator.report()


def evaluated(*arguments, **options):
    return reported(*arguments, **options).metrics


def test_an_object_is_found_up_to_its_best_iou_whatever_the_class():
    # IoU 1 with the first, 0.6 with the second: found at 0.50, 0.55 and 0.60 of ten thresholds.
    metrics = evaluated([[0, 0, 10, 10], [20, 20, 30, 30]], [[20, 20, 30, 26], [0, 0, 10, 10]])
    assert metrics["recall50"] == 1
    assert metrics["recall75"] == 0.5
    assert metrics["recall"] == pytest.approx((10 + 3) / 20)


def test_one_box_may_find_two_objects_and_ignored_ones_are_not_wanted():
    truth = [[0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 50, 50]]
    metrics = evaluated(truth, [[0, 0, 10, 10]], ignore=[False, False, True])
    assert metrics["recall75"] == 1


def test_nothing_found_and_nothing_wanted():
    assert evaluated([[0, 0, 10, 10]], [])["recall"] == 0
    assert np.isnan(evaluated([], [[0, 0, 1, 1]])["recall"])


def test_what_each_image_contributes_is_kept(tmp_path):
    report = reported([[0, 0, 10, 10], [20, 20, 30, 30]], [[20, 20, 30, 26], [0, 0, 10, 10]])
    report.write(tmp_path)
    kept = read_per_image(tmp_path)
    assert kept.ids.tolist() == [7]
    for name, values in kept.metrics(np.array([[1], [3]])).items():
        np.testing.assert_allclose(values, report.metrics[name], rtol=1e-15)
