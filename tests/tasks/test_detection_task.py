"""Detection, from a data set's name to figures, with an oracle as the model."""

import json

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.transforms.augment import Augment
from vision_jax.tasks import DetectionTask, InstanceTask
from vision_jax.types import DetectionBatch, Detections, DetectionSpec, UserError

SPEC = "synthetic?length=6&val_length=5&canvas=128"


def oracle(batch: DetectionBatch) -> Detections:
    """Answers with the truth."""
    valid = np.asarray(batch.valid)
    return Detections(
        boxes=batch.boxes,
        scores=np.where(valid, 0.9, 0).astype(np.float32),  # type: ignore[arg-type]
        labels=np.where(valid, batch.labels, -1),  # type: ignore[arg-type]
        valid=valid,  # type: ignore[arg-type]
    )


def evaluated(data, change=lambda d: d, batch_size=2):
    evaluators = data.evaluators()
    metrics, files = {}, {}
    for batch in data.once("val", batch_size):
        for evaluator in evaluators:
            evaluator.add(batch, change(oracle(batch)))
    for evaluator in evaluators:
        report = evaluator.report()
        metrics |= report.metrics
        files |= report.files
    return metrics, files


def test_the_truth_scores_1_through_resizing_and_back(tmp_path):
    data = DetectionTask(SPEC, canvas=(96, 96)).open(None)
    metrics, files = evaluated(data)
    assert metrics["AP"] == pytest.approx(1.0)
    assert metrics["VOC/mAP"] == pytest.approx(1.0)
    files["predictions.json"](tmp_path / "p.json")
    assert len(json.loads((tmp_path / "p.json").read_text())) > 0


def test_wrong_classes_score_less():
    data = DetectionTask(SPEC, canvas=(96, 96)).open(None)
    k = len(data.spec.classes)
    metrics, _ = evaluated(data, lambda d: d.replace(labels=np.where(d.valid, (d.labels + 1) % k, -1)))
    assert metrics["AP"] < 0.2


def test_every_evaluation_image_comes_once_at_any_batch_size():
    data = DetectionTask(SPEC).open(None)
    for size in (1, 4):
        batches = list(data.once("val", size))
        ids = np.concatenate([b.id[b.example_valid] for b in batches])
        np.testing.assert_array_equal(np.sort(ids), np.arange(5))
        assert all(b.image.shape == (size, 128, 128, 3) for b in batches)


def test_training_is_augmented_and_overfitting_is_not():
    data = DetectionTask(SPEC, augment=Augment(hflip=1, color=0.5)).open(None)
    few = data.overfit(2)
    batch = next(few.train(4, 0, 0))
    assert set(batch.id.tolist()) == {0, 1}
    plain = next(iter(few.once("val", 2)))
    np.testing.assert_array_equal(np.sort(plain.id), [0, 1])
    for b, id in enumerate(batch.id):
        np.testing.assert_array_equal(batch.image[b], plain.image[id])
    varied = next(data.train(6, 0, 0))
    for b, id in enumerate(varied.id):
        if id < 2:
            assert np.abs(varied.image[b].astype(int) - plain.image[id]).mean() > 1
    metrics, _ = evaluated(few)
    assert metrics["AP"] == pytest.approx(1.0)


def test_the_data_decide_what_is_left_open():
    assert DetectionTask(SPEC).open(None).spec.canvas == (128, 128)
    assert DetectionTask(SPEC, canvas=(96, 64)).open(None).spec.canvas == (96, 64)


def test_images_need_no_data_when_the_canvas_is_known():
    task, spec = DetectionTask("coco:/there/is/nothing"), DetectionSpec(("a",), (64, 32))
    rng = np.random.default_rng(0)
    wide, high = (rng.integers(0, 255, shape, np.uint8) for shape in ((100, 200, 3), (200, 100, 3)))
    batch = task.prepare([wide], [7], spec)
    assert batch.image.shape == (1, 32, 64, 3)
    assert (batch.id.tolist(), batch.size.tolist(), batch.valid.any()) == ([7], [[32, 64]], False)
    assert task.prepare([high], [0], spec).image.shape == (1, 64, 32, 3)
    both = task.prepare([wide, high], [0, 1], spec)
    assert both.image.shape == (2, 64, 64, 3)
    assert both.size.tolist() == [[32, 64], [64, 32]]


def test_answers_are_in_the_images_pixels():
    task, spec = DetectionTask(SPEC), DetectionSpec(("a", "b", "c"), (64, 32))
    batch = task.prepare([np.zeros((100, 200, 3), np.uint8)], [7], spec)
    found = Detections(
        boxes=np.array([[[16, 8, 64, 32], [0, 0, 1, 1]]], np.float32),  # type: ignore[arg-type]
        scores=np.array([[0.75, 0]], np.float32),  # type: ignore[arg-type]
        labels=np.array([[2, -1]], np.int32),  # type: ignore[arg-type]
        valid=np.array([[True, False]]),  # type: ignore[arg-type]
    )
    (answers,) = task.to_json(batch, found, spec)
    assert answers == [
        {"image_id": 7, "category_id": 3, "category": "c", "bbox": [50.0, 25.0, 150.0, 75.0], "score": 0.75}
    ]


def test_a_summary_counts_what_the_sources_hold(tmp_path):
    task = DetectionTask(SPEC)
    report = task.open(None).summary()
    data = task.open(None)
    objects = sum(int(b.valid.sum()) for b in data.overfit(6).once("val", 3))
    assert report.metrics["train/images"] == 6
    assert report.metrics["train/objects"] == objects
    assert f"| all | {objects} |" in report.tables["classes.md"]
    report.write(tmp_path)
    assert (tmp_path / "data.png").stat().st_size > 1000


def test_impossible_arguments_are_refused():
    with pytest.raises(UserError, match="long side first"):
        DetectionTask(SPEC, canvas=(240, 320))
    with pytest.raises(UserError, match="max_objects"):
        DetectionTask(SPEC, max_objects=0)


@pytest.mark.parametrize("task", [DetectionTask, InstanceTask])
def test_training_on_nothing_to_learn_is_refused_and_evaluating_is_not(tmp_path, task):
    """Two images: a crowd, as CVAT writes what its brush painted, and an object."""
    outline = [[2, 2, 12, 2, 12, 12, 2, 12]]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (1, 2)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [2, 2, 10, 10], "iscrowd": crowd}
            | {"segmentation": outline}
            for i, crowd in ((1, 1), (2, 0))
        ],
        "categories": [{"id": 1, "name": "dog"}],
    }
    for i in (1, 2):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / f"{i}.png")

    def opened():
        (tmp_path / "data.json").write_text(json.dumps(content))
        return task(f"coco:{tmp_path}", canvas=(32, 32)).open(None)

    assert sum(int(batch.valid.sum()) for batch in opened().once("val", 1)) == 1
    next(opened().train(1, 0, 0))
    with pytest.raises(
        UserError, match="nothing to learn in the training images: all 1 objects of its 1 images"
    ):
        opened().overfit(1).train(1, 0, 0)
    content["annotations"][1]["iscrowd"] = 1
    data = opened()
    with pytest.raises(
        UserError, match=r"nothing to learn .* all 2 objects of its 2 images .*set iscrowd to 0"
    ):
        data.train(1, 0, 0)
    assert sum(int(batch.ignore.sum()) for batch in data.once("val", 1)) == 2
