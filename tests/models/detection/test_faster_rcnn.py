"""Faster R-CNN: losses and detections by definition, invariances, and overfitting two images."""

from functools import partial

import chex
import jax
import numpy as np
import pytest

from tests.batches import detection_of
from tests.contract.contract import random_variables
from tests.models.overfitting import best_of_class, overfit, warmed_up
from vision_jax.backbones.resnet import ResNet
from vision_jax.layers import FPN
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead, SingleLevel
from vision_jax.models.detection.two_stage.regions import sample_regions
from vision_jax.models.detection.two_stage.rpn import overlaps_ignored, propose, rpn_loss
from vision_jax.ops import box_iou
from vision_jax.types import DetectionBatch, Proposals, to_original

KEYS = {"params": jax.random.key(0), "sample": jax.random.key(1)}
ONE_MAP = {
    "backbone": ResNet((1, 1), bottleneck=False, norm="group", width=8),
    "neck": SingleLevel("c3"),
    "rpn": RPN(sizes=((24,),), anchors_per_image=32),
}


def detector(norm="group", **changes) -> FasterRCNN:
    settings = {
        "backbone": ResNet((1, 1, 1, 1), bottleneck=False, norm=norm, width=8),
        "num_classes": 2,
        "neck": FPN(16, norm),
        "rpn": RPN(sizes=(8, 16, 32, 64, 128), anchors_per_image=32),
        "train_proposals": (100, 50),
        "test_proposals": (100, 20),
        "rois_per_image": 16,
        "head": MLPHead(32),
        "max_detections": 10,
    }
    return FasterRCNN(**{**settings, **changes})


def scenes(count: int, objects: int = 3) -> DetectionBatch:
    """A bright square (class 0) left of a dark one (class 1) on gray, 64x64, the last truths padded."""
    rng = np.random.default_rng(0)
    images = np.full((count, 64, 64, 3), 128, np.uint8)
    boxes = np.zeros((count, objects, 4), np.float32)
    labels = np.full((count, objects), -1, np.int32)
    for b in range(count):
        for n in range(objects - 1):
            side = rng.integers(22, 31)
            x, y = rng.integers(0, 33 - side) + 32 * n, rng.integers(0, 65 - side)
            boxes[b, n], labels[b, n] = (x, y, x + side, y + side), n
            images[b, y : y + side, x : x + side] = 255 if n == 0 else 0
    return detection_of(images, boxes, labels, id=np.arange(10, 10 + count, dtype=np.int32))


@pytest.fixture(scope="module")
def batch():
    return scenes(4)


@pytest.fixture(scope="module", params=["one map", pytest.param("pyramid", marks=pytest.mark.slow)])
def model(request):
    """On one map, which compiles sooner, and on a pyramid."""
    return detector() if request.param == "pyramid" else detector(**ONE_MAP)


@pytest.fixture(scope="module")
def variables(model, batch):
    return jax.jit(lambda: model.init(KEYS, batch, method="loss"))()


@pytest.fixture(scope="module")
def losses(model):
    def run(variables, batch, key):
        return model.apply(variables, batch, method="loss", rngs={"sample": key})

    return jax.jit(run)


def test_terms_weigh_what_was_sampled(variables, batch, losses):
    terms = losses(variables, batch, jax.random.key(2))
    assert set(terms) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box"}
    assert float(terms["rpn_objectness"].weight) == 4 * 32
    assert float(terms["rpn_box"].weight) == 4 * 32
    assert 0 < float(terms["roi_class"].weight) <= 4 * 16
    # A fresh network knows nothing: near log 2 and log 3.
    assert abs(float(terms["rpn_objectness"].value()) - np.log(2)) < 0.05
    assert abs(float(terms["roi_class"].value()) - np.log(3)) < 0.5


def test_sampling_follows_the_example_and_not_its_position(variables, batch, losses):
    key = jax.random.key(2)
    terms = losses(variables, batch, key)
    order = np.array([2, 0, 3, 1])
    shuffled = losses(variables, jax.tree.map(lambda leaf: leaf[order], batch), key)
    chex.assert_trees_all_close(terms, shuffled, rtol=1e-5)
    renamed = losses(variables, batch.replace(id=batch.id + 1), key)
    assert float(renamed["rpn_objectness"].total) != float(terms["rpn_objectness"].total)


def test_invalid_examples_and_padding_do_not_count(variables, batch, losses):
    key = jax.random.key(2)
    half = batch.replace(example_valid=np.array([True, True, False, False]))
    garbage = half.replace(
        boxes=np.where(half.valid[..., None], half.boxes, 1e4).astype(np.float32),
        image=np.where(half.example_valid[:, None, None, None], half.image, 7).astype(np.uint8),
    )
    terms, other = losses(variables, half, key), losses(variables, garbage, key)
    chex.assert_trees_all_close(terms, other, rtol=1e-6)
    assert float(terms["rpn_objectness"].weight) == 2 * 32


def test_an_image_without_objects_is_all_background(variables, batch, losses):
    empty = batch.replace(valid=np.zeros_like(batch.valid))
    terms = losses(variables, empty, jax.random.key(2))
    assert float(terms["rpn_box"].total) == 0
    assert float(terms["roi_box"].total) == 0
    assert float(terms["roi_class"].weight) > 0
    assert all(np.isfinite(float(leaf)) for leaf in jax.tree.leaves(terms))


def test_ignored_regions_are_neither_found_nor_background():
    anchors = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]], np.float32)
    boxes = np.array([[0, 0, 10, 10], [18, 18, 31, 31]], np.float32)
    valid, ignore = np.array([True, False]), np.array([False, True])
    objectness = np.array([3, -1, 0.5], np.float32)
    deltas = np.zeros((3, 4), np.float32)
    deltas[0, 2] = 0.01

    @jax.jit
    def run(objectness, deltas, anchors, boxes, valid, ignore):
        truths = box_iou(boxes, anchors), boxes, valid, ignore
        terms = rpn_loss(jax.random.key(0), objectness, deltas, anchors, *truths, RPN(anchors_per_image=8))
        return overlaps_ignored(anchors, boxes, ignore), terms

    ignored, terms = run(objectness, deltas, anchors, boxes, valid, ignore)
    np.testing.assert_array_equal(ignored, [False, True, False])
    # Anchor 0 is the object, anchor 2 the background, anchor 1 is not looked at.
    expected = np.log1p(np.exp(-3.0)) + np.log1p(np.exp(0.5))
    np.testing.assert_allclose(terms["rpn_objectness"].total, expected, rtol=1e-5)
    assert float(terms["rpn_objectness"].weight) == 2
    np.testing.assert_allclose(terms["rpn_box"].total, 0.01**2 / 2 * 9, rtol=1e-4)


def test_proposals_are_the_best_anchors_moved_clipped_and_suppressed():
    anchors = [np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40], [-8, -8, 8, 8]], np.float32)]
    deltas = np.zeros((4, 4), np.float32)
    deltas[2, 0] = 0.5
    outputs = [np.array([2, 1, 0, 3], np.float32)], [deltas]

    @jax.jit
    def run(outputs, size):
        return [propose(*outputs, anchors, size, n, 3, 0.7) for n in (4, 2)]

    found, fewer = jax.device_get(run(outputs, np.array([38, 64], np.int32)))
    assert isinstance(found, Proposals)
    np.testing.assert_allclose(found.boxes, [[0, 0, 8, 8], [0, 0, 10, 10], [35, 30, 45, 38]])
    np.testing.assert_allclose(found.scores, [3, 2, 0])
    assert found.valid.all()
    np.testing.assert_array_equal(fewer.valid, [True, True, False][: len(fewer.valid)])


def test_sampled_regions_are_objects_and_proposals_positives_first():
    truth = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
    boxes = np.array([[0, 0, 10, 8], [60, 60, 70, 70], [22, 22, 38, 38], [0, 0, 0, 0]], np.float32)
    proposals = Proposals(boxes, np.zeros(4, np.float32), np.array([True, True, True, False]))
    valid, ignore = np.array([True, False]), np.array([False, True])

    @jax.jit
    def run(key, *of_image):
        return sample_regions(
            key, *of_image, 3, rois_per_image=8, positive_fraction=0.5, fg_iou_threshold=0.5
        )

    found = run(jax.random.key(0), proposals, truth, np.array([2, 1], np.int32), valid, ignore)
    # The object, the proposal on it, and one of the background; the one in the ignored region is neither.
    np.testing.assert_array_equal(found.sampled, np.arange(8) < 3)
    np.testing.assert_array_equal(found.positive, np.arange(8) < 2)
    assert {tuple(box) for box in np.asarray(found.boxes)[:2].tolist()} == {(0, 0, 10, 10), (0, 0, 10, 8)}
    np.testing.assert_array_equal(found.boxes[2], boxes[1])
    np.testing.assert_array_equal(found.labels[:3], [2, 2, 3])
    # The object's center is 1 pixel below that of the proposal, which is 8 pixels high (weights 10 and 5).
    moved = found.targets[int(np.argmin(found.boxes[:2, 3]))]
    np.testing.assert_allclose(moved, [0, 10 / 8, 0, 5 * np.log(10 / 8)], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model", ["one map", pytest.param("pyramid", marks=pytest.mark.slow)], indirect=True, scope="module"
)
def test_detections_are_sorted_inside_and_never_below_the_threshold(model, batch):
    variables = random_variables(jax.eval_shape(partial(model.init, method="loss"), KEYS, batch))
    small = batch.replace(size=np.array([[64, 64], [40, 64], [64, 30], [64, 64]], np.int32))
    found = jax.jit(lambda v, b: model.apply(v, b, method="predict"))(variables, small)
    scores, valid = np.asarray(found.scores), np.asarray(found.valid)
    assert valid.any()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (scores[valid] > model.score_threshold).all()
    assert (np.asarray(found.labels)[~valid] == -1).all()
    for b, (height, width) in enumerate(np.asarray(small.size)):
        boxes = np.asarray(found.boxes)[b][valid[b]]
        assert (boxes >= 0).all()
        assert (boxes <= np.array([width, height, width, height])).all()
    assert len(to_original(small, jax.device_get(found))) == 4


@pytest.mark.slow
def test_with_roi_pool_on_one_map_and_class_agnostic_boxes_it_overfits_two_images():
    """On a map of stride 8: at 16, RoIPool's rounding gives an object and its surroundings the same cells."""
    batch = scenes(2)
    model = detector(
        backbone=ResNet((1, 1), bottleneck=False, norm="group", width=8),
        neck=SingleLevel("c3"),
        rpn=RPN(sizes=((24,),), anchors_per_image=32),
        roi="pool",
        class_agnostic=True,
        rois_per_image=32,
        head=MLPHead(64),
    )
    variables, losses = overfit(model, batch, warmed_up(1e-2, 120), 120)
    assert losses[-10:].mean() / losses[:10].mean() < 0.25
    found = jax.jit(partial(model.apply, method="predict"))(variables, batch)
    for b, boxes in enumerate(batch.boxes):
        for n in range(2):
            best = best_of_class(found, b, n)
            assert found.scores[b, best] > 0.7
            assert box_iou(found.boxes[b, best][None], boxes[n][None]) > 0.5
