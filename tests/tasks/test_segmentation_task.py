"""Segmentation, from a data set's name to figures, with an oracle as the model."""

import sys

import numpy as np
import pytest

from vision_jax.data.open import open_segmentation
from vision_jax.tasks import SegmentationTask
from vision_jax.types import Segmentation, SegmentationBatch, SegmentationSpec, UserError

SPEC = "synthetic?length=4&val_length=3&canvas=128"


def answer(batch: SegmentationBatch, labels: np.ndarray, k: int) -> Segmentation:
    probabilities = np.eye(k, dtype=np.float32)[labels]
    return Segmentation(labels=labels.astype(np.int32), probabilities=probabilities)  # type: ignore[arg-type]


def evaluated(data, labels_of) -> dict[str, float]:
    (evaluator,) = data.evaluators()
    for batch in data.once("val", 2):
        evaluator.add(batch, answer(batch, labels_of(batch), len(data.spec.classes)))
    return dict(evaluator.report().metrics)


def weights_of(*arguments, **options):
    return SegmentationTask(*arguments, **options).open(None).spec.class_weights


def test_the_truth_scores_1_and_a_constant_scores_the_majority():
    data = SegmentationTask(SPEC).open(None)
    metrics = evaluated(data, lambda batch: np.maximum(batch.labels, 0))
    assert metrics["pixel_accuracy"] == pytest.approx(1)
    assert metrics["mIoU"] == pytest.approx(1)
    counts = np.zeros(len(data.spec.classes))
    for batch in data.once("val", 3):
        counts += np.bincount(batch.labels[batch.labels >= 0], minlength=len(counts))
    constant = evaluated(data, lambda batch: np.full(batch.labels.shape, counts.argmax()))
    assert constant["pixel_accuracy"] == pytest.approx(counts.max() / counts.sum())
    assert constant["mIoU"] == pytest.approx(constant["mIoU/majority"])


def test_ground_truth_resized_twice_is_evaluated_at_the_original_size():
    data = SegmentationTask(SPEC, canvas=(64, 64)).open(None)
    metrics = evaluated(data, lambda batch: np.maximum(batch.labels, 0))
    assert 0.9 < metrics["pixel_accuracy"] < 1


def test_overfitting_takes_the_first_images_as_they_are():
    few = SegmentationTask(SPEC).open(None).overfit(2)
    plain = next(iter(few.once("val", 2)))
    batch = next(few.train(2, 0, 0))
    assert sorted(batch.id.tolist()) == [0, 1]
    for b, id in enumerate(batch.id):
        np.testing.assert_array_equal(batch.image[b], plain.image[id])
        np.testing.assert_array_equal(batch.labels[b], plain.labels[id])


def test_images_lie_on_canvases_of_their_own_orientation():
    task, spec = SegmentationTask("labels:/there/is/nothing"), SegmentationSpec(("a",), (64, 32))
    batch = task.prepare([np.full((100, 50, 3), 9, np.uint8)], [4], spec)
    assert batch.image.shape == (1, 64, 32, 3)
    assert batch.size.tolist() == [[64, 32]]
    assert (batch.labels == -1).all()


def test_answers_cover_the_image_at_its_own_size():
    task, spec = SegmentationTask(SPEC), SegmentationSpec(("a", "b", "c"), (64, 32))
    batch = task.prepare([np.zeros((60, 200, 3), np.uint8)], [4], spec)
    labels = np.zeros(batch.labels.shape, np.int32)
    labels[:, :, 33:] = 2  # the center of column x is at 0.32 (x + 0.5): from x = 103 on in column 33
    (answers,) = task.to_json(batch, answer(batch, labels, 3), spec)
    assert [(a["category"], a["category_id"], a["area"]) for a in answers] == [
        ("a", 1, 6180),
        ("c", 3, 5820),
    ]
    assert answers[0]["segmentation"] == {"size": [60, 200], "counts": [0, 6180, 5820]}
    assert answers[1]["segmentation"] == {"size": [60, 200], "counts": [6180, 5820]}


def test_a_summary_counts_pixels(tmp_path):
    report = SegmentationTask(SPEC).open(None).summary()
    assert report.metrics["train/images"] == 4
    assert report.tables["classes.md"].splitlines()[-1] == f"| all | {4 * 128**2} | {3 * 128**2} |"
    report.write(tmp_path)
    assert (tmp_path / "data.png").stat().st_size > 1000


def test_weights_follow_the_training_labels_or_are_given():
    assert weights_of(SPEC) is None
    train = open_segmentation(SPEC)[0]
    counts = np.array([np.bincount(train.labels(i).ravel(), minlength=len(train.classes)) for i in range(4)])
    seen = [counts[counts[:, k] > 0].sum() for k in range(len(train.classes))]
    frequency = np.array([counts[:, k].sum() / s if s else np.nan for k, s in enumerate(seen)])
    expected = np.nan_to_num(np.nanmedian(frequency) / frequency)
    np.testing.assert_allclose(weights_of(SPEC, balance="median_frequency"), expected, rtol=1e-3)
    np.testing.assert_allclose(weights_of(SPEC, balance="mild"), np.sqrt(expected), rtol=1e-3)
    given = tuple(range(1, len(train.classes) + 1))
    assert weights_of(SPEC, balance="mild", class_weights=given) == given


def test_a_class_that_no_counted_map_has_weighs_as_much_as_the_rarest(monkeypatch, caplog):
    train = open_segmentation(SPEC)[0]
    present = {int(k) for i in range(4) for k in np.unique(train.labels(i))}
    first = {int(k) for k in np.unique(train.labels(0))}
    assert first < present
    monkeypatch.setattr(sys.modules["vision_jax.tasks.segmentation"], "_WEIGHED", 1)
    weights = np.array(weights_of(SPEC, balance="median_frequency"))
    unseen = [k for k in range(len(weights)) if k not in first]
    assert (weights[unseen] == weights.max()).all()
    assert (
        f"in the 1 label maps counted for the weights of classes there is no {train.classes[unseen[0]]}"
        in caplog.text
    )


def test_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(UserError, match=r"class_weights has 2 numbers for \d+ classes: background, "):
        SegmentationTask(SPEC, class_weights=(1.0, 2.0)).open(None)


def test_what_is_kept_in_memory_counts_label_maps(monkeypatch):
    """Of 3 images of 128 x 128 pixels, with 3 bytes of color and 4 of label each."""
    source = type(open_segmentation(SPEC)[0])
    read, original = [], source.image
    monkeypatch.setattr(source, "image", lambda self, index: read.append(index) or original(self, index))
    for limit, times in ((3 * 128**2 * 7, 1), (3 * 128**2 * 7 - 1, 2)):
        monkeypatch.setattr("vision_jax.tasks.loading._KEEP_BYTES", limit)
        batches = SegmentationTask(SPEC, canvas=(128, 128)).open(None).once("val", 4)
        read.clear()
        for _ in range(2):
            assert len(list(batches)) == 1
        assert sorted(read) == sorted([0, 1, 2] * times)


def test_boundaries_are_evaluated_on_request():
    data = SegmentationTask(SPEC, boundaries=True).open(None)
    areas, near = data.evaluators()
    for batch in data.once("val", 2):
        labels = answer(batch, np.maximum(batch.labels, 0), len(data.spec.classes))
        areas.add(batch, labels)
        near.add(batch, labels)
    assert near.report().metrics["boundary_F1"] == 1
    assert near.report().metrics["trimap/4"] == areas.report().metrics["mIoU"] == 1
