"""Classification and segmentation scores against values worked by hand."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batches import classification_of, segmentation_of
from vision_jax.evaluation import ClassificationEvaluator, SegmentationEvaluator, segmentation_scores
from vision_jax.evaluation.segmentation.scores import _resize_nearest
from vision_jax.types import Classification, Segmentation


def classified(labels, answers, valid=None, classes=6):
    n = len(labels)
    # The answer is most probable; the others fall off with the class number, so class 5 is last of six.
    probabilities = np.tile(np.linspace(0.2, 0.1, classes, dtype=np.float32), (n, 1))
    probabilities[np.arange(n), answers] = 1
    batch = classification_of(
        np.zeros((n, 4, 4, 3), np.uint8),
        labels,
        example_valid=np.ones(n, bool) if valid is None else np.array(valid),
    )
    return batch, Classification(np.array(answers, np.int32), probabilities)


def test_accuracy_worked_by_hand(tmp_path):
    evaluator = ClassificationEvaluator(["a", "b", "c", "d", "e", "f"])
    evaluator.add(*classified([0, 0, 0, 5], [0, 0, 1, 1]))
    evaluator.add(*classified([2, 3, 4], [2, 1, 4], valid=[True, True, False]))
    report = evaluator.report()
    # Six images: right are two 0s and the 2. Outside the five most probable: only the 5.
    assert report.metrics == {"accuracy": 3 / 6, "accuracy/top5": 5 / 6, "accuracy/majority": 3 / 6}
    rows = [
        [c.strip() for c in line.split("|")[1:-1]]
        for line in report.tables["per_class_accuracy.md"].splitlines()
    ]
    assert rows[2] == ["a", "0.667", "3", "b (1)"]
    assert rows[6] == ["e", "-", "0", ""]
    report.write(tmp_path)
    assert "| a                |   2 |   1 |" in (tmp_path / "confusion_matrix.md").read_text()
    assert cv2.imread(str(tmp_path / "confusion_matrix.png")).shape[0] > 300


def test_few_classes_have_no_top5_and_no_images_no_accuracy():
    evaluator = ClassificationEvaluator(["a", "b"])
    assert set(evaluator.report().metrics) == {"accuracy", "accuracy/majority"}
    assert all(math.isnan(v) for v in evaluator.report().metrics.values())


def segmented(truth, answer, size=None, example_valid=None):
    truth, answer = np.array(truth, np.int32), np.array(answer, np.int32)
    b, h, w = truth.shape
    valid = np.ones(b, bool) if example_valid is None else np.array(example_valid)
    image = np.zeros((b, h, w, 3), np.uint8)
    batch = segmentation_of(image, truth, size, example_valid=valid)
    return batch, Segmentation(answer, np.zeros((b, h, w, 3), np.float32))


def test_iou_worked_by_hand(tmp_path):
    # Class 0: 4 pixels, 3 found, none wrongly: 3/4. Class 1: 2 pixels, both found, one 0 taken for it: 2/3.
    # Class 2 does not occur. The void pixel and the padding count nowhere.
    evaluator = SegmentationEvaluator(["a", "b", "c"])
    evaluator.add(*segmented([[[0, 0, 0, -1], [0, 1, 1, 2]]], [[[0, 0, 0, 1], [1, 1, 1, 0]]], size=(2, 3)))
    second = segmented([[[-1, -1]], [[2, 2]]], [[[2, 2]], [[0, 0]]], example_valid=[True, False])
    evaluator.add(*second)
    report = evaluator.report()
    expected = {
        "pixel_accuracy": 5 / 6,
        "mean_accuracy": (3 / 4 + 1) / 2,
        "mIoU": (3 / 4 + 2 / 3) / 2,
        "fwIoU": 4 / 6 * 3 / 4 + 2 / 6 * 2 / 3,
        "pixel_accuracy/majority": 4 / 6,
        "mIoU/majority": 4 / 6 / 2,
    }
    assert report.metrics == pytest.approx(expected)
    rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in report.tables["per_class_iou.md"].splitlines()
    ]
    assert rows[2] == ["a", "0.750", "0.750", "66.67 %"]
    assert rows[4] == ["c", "-", "-", "0.00 %"]
    report.write(tmp_path)
    assert cv2.imread(str(tmp_path / "confusion_matrix.png")).shape[0] > 200


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 4))
def test_segmentation_scores_are_those_of_the_fcn_paper(seed, images):
    """Its four formulas (Long et al. 2015, section 5), with sets of pixels in place of a matrix."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, rng.integers(1, 5), (images, 6, 7))
    answer = np.where(rng.random(truth.shape) < 0.5, np.maximum(truth, 0), rng.integers(0, 4, truth.shape))
    truth[0, 0, 0] = 0  # Something is labeled.
    evaluator = SegmentationEvaluator("abcd")
    evaluator.add(*segmented(truth, answer))
    pixels = [tuple(p) for p in np.argwhere(truth >= 0)]
    n = {(i, j): sum(truth[p] == i and answer[p] == j for p in pixels) for i in range(4) for j in range(4)}
    t = {i: sum(truth[p] == i for p in pixels) for i in range(4)}
    iou = {}
    for i in range(4):
        union = t[i] + sum(n[j, i] for j in range(4)) - n[i, i]
        if union:
            iou[i] = n[i, i] / union
    accuracies = [n[i, i] / t[i] for i in range(4) if t[i]]
    expected = {
        "pixel_accuracy": sum(n[i, i] for i in range(4)) / sum(t.values()),
        "mean_accuracy": sum(accuracies) / len(accuracies),
        "mIoU": sum(iou.values()) / len(iou),
        "fwIoU": sum(t[i] * iou[i] for i in iou) / sum(t.values()),
    }
    metrics = evaluator.report().metrics
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_a_class_that_is_only_predicted_has_an_iou_of_zero():
    scores = segmentation_scores(np.array([[3, 0, 1], [0, 4, 0], [0, 0, 0]]))
    assert scores["mIoU"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert scores["mean_accuracy"] == pytest.approx((3 / 4 + 1) / 2)


def test_counts_stay_exact_beyond_float32():
    # 2**24 + 1 is not a float32; one wrong pixel must still show.
    confusion = np.array([[2**24, 1], [0, 2**24]])
    assert segmentation_scores(confusion)["pixel_accuracy"] < 1
    assert segmentation_scores(confusion)["mIoU"] == pytest.approx(1 - 1 / (2**24 + 1), abs=1e-12)


def test_nothing_labeled_is_undefined():
    assert all(math.isnan(v) for v in SegmentationEvaluator(["a"]).report().metrics.values())


def test_evaluates_at_the_sources_own_size():
    class Source:
        classes = ("a", "b")

        def __len__(self):
            return 1

        def name(self, index):
            return "0.png"

        def image(self, index):
            raise AssertionError("evaluation needs no pixels")

        def labels(self, index):
            # 3 x 6: the left half 0, the right half 1, but for one corner.
            labels = np.repeat([[0, 0, 0, 1, 1, 1]], 3, axis=0).astype(np.int32)
            labels[0, 0] = 1
            return labels

    # The model saw 1 x 2 pixels in the corner of a 2 x 4 canvas.
    batch, answer = segmented([[[0, 1, -1, -1], [-1] * 4]], [[[0, 1, 1, 1], [1] * 4]], size=(1, 2))
    evaluator = SegmentationEvaluator(Source.classes, Source())
    evaluator.add(batch, answer)
    assert evaluator.report().metrics["pixel_accuracy"] == pytest.approx(17 / 18)
    resized_truth = SegmentationEvaluator(Source.classes)
    resized_truth.add(batch, answer)
    assert resized_truth.report().metrics["pixel_accuracy"] == 1


def test_resizing_takes_the_label_under_each_pixels_center():
    # Four pixels seen for two of the source: its pixels' centers, 0.5 and 1.5, fall on the second and fourth.
    answer = np.array([[0, 1, 2, 3]], np.int32)
    np.testing.assert_array_equal(_resize_nearest(answer, 1, 2), [[1, 3]])
    np.testing.assert_array_equal(_resize_nearest(answer, 2, 3), [[0, 2, 3]] * 2)
