"""Every kind of case, tiny: it runs, does the work it says, and counts it."""

import numpy as np
import pytest

from vision_jax.benchmarks.case import Settings
from vision_jax.benchmarks.cases import CASES
from vision_jax.benchmarks.child import measured
from vision_jax.benchmarks.detectors import crowded_batch
from vision_jax.benchmarks.measure import measure_time


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nms_spread", "nms_dense", "nms_chain"])
def test_what_is_kept_is_what_greedy_nms_keeps(name, tiny):
    case = CASES[name](tiny)
    side = case.ours()
    boxes, alive, kept = case._boxes.astype(np.float64), np.argsort(-case._scores), 0
    while len(alive):
        best, alive, kept = boxes[alive[0]], alive[1:], kept + 1
        low, high = np.maximum(best[:2], boxes[alive, :2]), np.minimum(best[2:], boxes[alive, 2:])
        intersection = np.prod(np.maximum(high - low, 0), 1)
        areas = np.prod(boxes[alive, 2:] - boxes[alive, :2], 1) + np.prod(best[2:] - best[:2])
        alive = alive[intersection / (areas - intersection) <= 0.5]
    assert side.count(side.run()) == {"kept": kept}
    if name == "nms_chain":
        assert kept == tiny.boxes / 2


@pytest.mark.slow
def test_spread_boxes_are_mostly_kept_and_dense_ones_are_not():
    many = Settings(boxes=500)
    kept = {}
    for name in ("nms_spread", "nms_dense"):
        side = CASES[name](many).ours()
        kept[name] = side.count(side.run())["kept"]
    assert kept["nms_spread"] > 490
    assert kept["nms_dense"] < 450


@pytest.mark.slow
@pytest.mark.parametrize("name", ["roi_align_gradient", "box_iou", "mobilenet_v2_forward", "input_pipeline"])
def test_a_case_without_its_peer_has_one_side(name, tiny):
    found = measure_time(CASES[name](tiny), rounds=2, peers=False)
    assert len(found["seconds"]["ours"]) == 2
    assert min(found["seconds"]["ours"]) > 0
    assert found["first_call"] > 0
    assert set(found["seconds"]) == {"ours"}


@pytest.mark.slow
def test_a_measured_training_step_lowers_the_loss(tiny):
    side = CASES["segnet_basic_step"](tiny).ours()
    first, second = side.run(), side.run()
    assert bool(second.finite)
    assert 0 < float(second.loss) < float(first.loss)
    assert side.count(second) == {}


@pytest.mark.slow
def test_random_weights_detect_something(tiny):
    side = CASES["faster_rcnn_predict"](tiny).ours()
    found = side.run()
    assert side.count(found)["detections"] == int(np.sum(found.valid)) > 3


def test_objects_of_a_crowd_are_side_by_side_and_have_masks():
    batch = crowded_batch(60, 6)  # 3 columns of 20 pixels, 2 rows of 30
    np.testing.assert_allclose(batch.boxes[0, 4], [20, 30, 38, 57])
    assert batch.masks[0, 4, 43, 29] == 255
    inside = np.zeros((60, 60), bool)
    inside[30:57, 20:38] = True
    assert not batch.masks[0, 4][~inside].any()
    assert abs((batch.masks[0, 4] > 0).sum() - np.pi / 4 * 18 * 27) < 20


def test_a_mistake_of_the_users_is_handed_on(tiny):
    order = {"case": "input_pipeline", "settings": {**vars(tiny), "data": "coco:/nowhere"}, "what": "ours"}
    assert "/nowhere" in measured(order)["error"]
