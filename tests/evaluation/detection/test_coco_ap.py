"""COCO AP against pycocotools and against values worked by hand."""

import contextlib
import io
import json
import math

import numpy as np
import pytest

from tests.paths import SHARED
from vision_jax.data.formats.coco.detection import CocoDetection
from vision_jax.evaluation import CocoEvaluator, detection_confusion
from vision_jax.types import ImageDetections

COCO_MINI = SHARED / "data/coco_mini/annotations/instances_val2017.json"
NAMES = {
    "AP": (1, None, "all", 100),
    "AP50": (1, 0.5, "all", 100),
    "AP75": (1, 0.75, "all", 100),
    "AP/small": (1, None, "small", 100),
    "AP/medium": (1, None, "medium", 100),
    "AP/large": (1, None, "large", 100),
    "AR/1": (0, None, "all", 1),
    "AR/10": (0, None, "all", 10),
    "AR/100": (0, None, "all", 100),
}


def truth_json(records, classes):
    annotations = []
    for r in records:
        for box, label, ignore, area in zip(r.boxes, r.labels, r.ignore, r.area, strict=True):
            x1, y1, x2, y2 = box.astype(float)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": r.id, "category_id": int(label) + 1}
                | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": float(area), "iscrowd": int(ignore)}
            )
    return {
        "images": [{"id": r.id, "height": r.height, "width": r.width} for r in records],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(classes)],
    }


def results_json(records, found, ids=None):
    results = []
    for r, (boxes, scores, labels) in zip(records, found, strict=True):
        for box, score, label in zip(boxes, scores, labels, strict=True):
            x1, y1, x2, y2 = (float(np.float32(v)) for v in box)
            results.append(
                {"image_id": r.id, "category_id": label + 1 if ids is None else ids[label]}
                | {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(np.float32(score))}
            )
    return results


def pycocotools_metrics(truth, results, limits=(1, 10, 100)):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        split = COCO()
        split.dataset = truth
        split.createIndex()
        protocol = COCOeval(split, split.loadRes(results), "bbox")
        protocol.params.maxDets = list(limits)
        protocol.evaluate()
        protocol.accumulate()
    metrics = {}
    for name, (precision, iou, area, limit) in NAMES.items():
        values = protocol.eval["precision" if precision else "recall"]
        values = values[..., ("all", "small", "medium", "large").index(area), list(limits).index(limit)]
        values = values if iou is None else values[protocol.params.iouThrs == iou]
        metrics[name] = values[values > -1].mean() if (values > -1).any() else math.nan
    at_all = protocol.eval["precision"][:, :, :, 0, -1]
    return metrics | {"AP@all": at_all[at_all > -1].mean()}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_pycocotools_with_crowds_sizes_ties_empty_images_and_many_detections(seed, split, predictions):
    records, found = split(seed)
    classes = ("a", "b", "c")
    evaluator = CocoEvaluator(records, classes)
    # In two batches and in another order; one image's predictions never come.
    for part in ([5, 3, 8, 1, 0, 2], [11, 10, 9, 7, 6]):
        evaluator.add(*predictions([records[i] for i in part], [found[i] for i in part], slots=200))
    found[4] = ([], [], [])
    with pytest.warns(UserWarning, match="AP@all"):
        report = evaluator.report()
    most = max(sum(label == k for label in labels) for _, _, labels in found for k in range(3))
    assert most > 100
    expected = pycocotools_metrics(
        truth_json(records, classes), results_json(records, found), limits=(1, 10, 100, most)
    )
    assert set(report.metrics) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(report.metrics[name], value, rtol=0, atol=1e-7, err_msg=name)
    assert report.metrics["AP@all"] != report.metrics["AP"]
    assert f"up to {most}" in report.tables["per_class_ap.md"]
    assert "1 images came without predictions" in report.tables["per_class_ap.md"]


def test_predictions_json_gives_pycocotools_the_same_figures(split, predictions, tmp_path):
    records, found = split(3)
    ids = [5, 90, 17]
    evaluator = CocoEvaluator(records, ("a", "b", "c"), category_ids=ids)
    evaluator.add(*predictions(records, found, slots=200, scale=0.37))
    with pytest.warns(UserWarning, match="AP@all"):
        report = evaluator.report()
    report.write(tmp_path)
    results = json.loads((tmp_path / "predictions.json").read_text())
    assert {r["category_id"] for r in results} == set(ids)
    truth = truth_json(records, "abc")
    for entry, id in zip(truth["categories"], ids, strict=True):
        entry["id"] = id
    for entry in truth["annotations"]:
        entry["category_id"] = ids[entry["category_id"] - 1]
    expected = pycocotools_metrics(truth, results)
    for name in NAMES:
        np.testing.assert_allclose(report.metrics[name], expected[name], rtol=0, atol=1e-12, err_msg=name)
    best = max(range(len(found[1][1])), key=lambda i: found[1][1][i])
    x1, y1, x2, y2 = found[1][0][best]
    first = next(r for r in results if r["image_id"] == records[1].id)
    np.testing.assert_allclose(first["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=2e-3)
    assert first["score"] == pytest.approx(found[1][1][best], abs=1e-7)


@pytest.mark.skipif(not COCO_MINI.exists(), reason="needs ../shared/data/coco_mini beside the project")
def test_equals_pycocotools_on_real_annotations(record, predictions):
    truth = json.loads(COCO_MINI.read_text())
    categories = sorted(truth["categories"], key=lambda c: c["id"])
    ids = [c["id"] for c in categories]
    rng = np.random.default_rng(0)
    records, found = [], []
    for image in truth["images"]:
        mine = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in mine], np.float64).reshape(-1, 4)
        sides = np.tile(boxes[:, 2:], 2)
        boxes[:, 2:] += boxes[:, :2]
        labels = [ids.index(a["category_id"]) for a in mine]
        r = record(
            image["id"], boxes, labels, [bool(a["iscrowd"]) for a in mine], (image["height"], image["width"])
        )
        r.area[:] = [a["area"] for a in mine]
        records.append(r)
        twice = np.concatenate([boxes, boxes]) + rng.normal(0, 0.07, (2 * len(boxes), 4)) * np.tile(
            sides, (2, 1)
        )
        twice = np.clip(twice, 0, [image["width"], image["height"]] * 2)
        found.append((twice, rng.random(len(twice)), labels * 2))
    assert sum(r.ignore.sum() for r in records) > 0
    evaluator = CocoEvaluator(records, [c["name"] for c in categories], ids)
    evaluator.add(*predictions(records, found, slots=200))
    metrics = evaluator.report().metrics
    expected = pycocotools_metrics(truth, results_json(records, found, ids))
    assert 0.2 < expected["AP"] < 0.9
    for name in NAMES:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_ap_of_one_found_object_of_two_by_hand(record, predictions):
    # Two objects, one found exactly, a false box above it: precision 1/2 up to recall 1/2, then nothing.
    # 51 of the 101 recalls 0, 0.01, ... 1 are at most 1/2.
    truth = [record(9, [[10, 10, 60, 60], [100, 100, 200, 200]], [0, 0])]
    evaluator = CocoEvaluator(truth, ("thing", "absent"))
    evaluator.add(*predictions(truth, [([[300, 300, 350, 350], [10, 10, 60, 60]], [0.9, 0.8], [0, 0])]))
    report = evaluator.report()
    half = 0.5 * 51 / 101
    for name in ("AP", "AP50", "AP75"):
        assert report.metrics[name] == pytest.approx(half)
    assert report.metrics["AP/medium"] == pytest.approx(0.5)
    assert report.metrics["AP/large"] == 0
    assert math.isnan(report.metrics["AP/small"])
    assert report.metrics["AR/1"] == 0
    assert report.metrics["AR/10"] == report.metrics["AR/100"] == 0.5
    assert "AP@all" not in report.metrics
    lines = report.tables["per_class_ap.md"].splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "thing",
        "0.252",
        "0.252",
        "0.252",
        "2",
        "0",
    ]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["absent", "-", "-", "-", "0", "0"]


def test_iou_decides_between_thresholds(record, predictions):
    # 100 x 100 against its left 72 columns: IoU 0.72 passes 0.5, 0.55, ... 0.7, five thresholds of ten.
    truth = [record(0, [[0, 0, 100, 100]], [0])]
    evaluator = CocoEvaluator(truth, ("thing",))
    evaluator.add(*predictions(truth, [([[0, 0, 72, 100]], [0.3], [0])]))
    metrics = evaluator.report().metrics
    assert metrics["AP50"] == 1
    assert metrics["AP75"] == 0
    assert metrics["AP"] == pytest.approx(0.5)


def test_ignored_regions_swallow_any_number_of_detections(record, predictions):
    truth = [record(0, [[0, 0, 200, 200], [300, 300, 340, 340]], [0, 0], [True, False])]
    inside = [[10, 10, 50, 50], [60, 60, 90, 90], [300, 300, 340, 340]]
    evaluator = CocoEvaluator(truth, ("thing",))
    evaluator.add(*predictions(truth, [(inside, [0.9, 0.8, 0.7], [0, 0, 0])]))
    report = evaluator.report()
    assert report.metrics["AP"] == 1
    assert "| thing    | 1.000 | 1.000 | 1.000 |       1 |       1 |" in report.tables["per_class_ap.md"]


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero(record, predictions):
    empty = [record(0, [], [])]
    evaluator = CocoEvaluator(empty, ("thing",))
    evaluator.add(*predictions(empty, [([[0, 0, 9, 9]], [0.9], [0])]))
    assert all(math.isnan(v) for v in evaluator.report().metrics.values())
    assert CocoEvaluator([record(0, [[0, 0, 9, 9]], [0])], ("thing",)).report().metrics["AP"] == 0
    assert math.isnan(CocoEvaluator([], ("thing",)).report().metrics["AP"])


def test_invalid_examples_are_skipped_and_mistakes_are_refused(record, predictions):
    truth = [record(0, [[0, 0, 50, 50]], [0]), record(1, [[0, 0, 50, 50]], [0])]
    batch, found = predictions(truth, [([[0, 0, 50, 50]], [0.9], [0]), ([[0, 0, 50, 50]], [0.9], [0])])
    evaluator = CocoEvaluator(truth, ("thing",))
    evaluator.add(batch.replace(example_valid=np.array([True, False])), found)
    assert evaluator.report().metrics["AR/100"] == 0.5
    with pytest.raises(ValueError, match="id 0 came twice"):
        evaluator.add(batch, found)
    with pytest.raises(ValueError, match="id 1, which is not in the split"):
        CocoEvaluator(truth[:1], ("thing",)).add(batch, found)
    with pytest.raises(ValueError, match="same image id"):
        CocoEvaluator([truth[0], truth[0]], ("thing",))


def test_a_source_will_do_for_records(record, predictions):
    class Source:
        classes = ("thing",)

        def __len__(self):
            return 2

        def record(self, index):
            return record(index, [[0, 0, 50, 50]], [0])

        def image(self, index):
            raise AssertionError("evaluation needs no pixels")

    evaluator = CocoEvaluator(Source(), Source.classes)
    evaluator.add(*predictions([Source().record(1)], [([[0, 0, 50, 50]], [0.9], [0])]))
    assert evaluator.report().metrics["AR/100"] == 0.5


def test_confusion_worked_by_hand(record):
    truth = record(
        0,
        [[0, 0, 50, 50], [100, 0, 150, 50], [200, 0, 250, 50], [300, 0, 400, 100]],
        [0, 1, 0, 0],
        [False, False, False, True],
    )
    found = ImageDetections(
        0,
        np.array(
            [
                [0, 0, 50, 50],  # right
                [100, 0, 150, 45],  # takes the 1 for a 0
                [0, 0, 50, 48],  # a second box on the first object: background
                [310, 10, 330, 30],  # inside the ignored region: not counted
                [200, 0, 250, 50],  # too weak: the object is missed
                [500, 300, 550, 350],  # background taken for a 1
            ],
            np.float32,
        ),
        np.array([0.9, 0.8, 0.95, 0.7, 0.3, 0.5], np.float32),
        np.array([0, 0, 1, 0, 0, 1]),
    )
    # The 0.95 comes before the 0.9 and takes the first object, as a 1; the 0.9 is then the second box.
    expected = [[0, 1, 1], [1, 0, 0], [1, 1, 0]]
    np.testing.assert_array_equal(detection_confusion(truth, found, 2), expected)
    weak = detection_confusion(truth, found, 2, score_threshold=0.2)
    np.testing.assert_array_equal(weak, [[1, 1, 0], [1, 0, 0], [1, 1, 0]])


def test_figures_and_tables_are_written(record, predictions, tmp_path):
    import cv2

    classes = [f"class {k}" for k in range(20)]
    truth = [record(0, [[0, 0, 50, 50], [60, 0, 90, 50], [60, 60, 90, 90]], [3, 3, 7])]
    evaluator = CocoEvaluator(truth, classes)
    found = [[0, 0, 50, 50], [60, 0, 90, 50], [60, 60, 90, 90]]
    evaluator.add(*predictions(truth, [(found, [0.9, 0.8, 0.7], [3, 5, 7])]))
    evaluator.report().write(tmp_path)
    for name in ("pr_curve.png", "confusion_matrix.png"):
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None
        assert min(picture.shape[:2]) > 300
        assert 0.002 < (picture.min(axis=2) < 120).mean() < 0.5
    # Too many classes for a matrix on a page: the confusions alone.
    text = (tmp_path / "confusion_matrix.md").read_text()
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[1:-1]] == [
        "class 3",
        "class 5",
        "1",
        "2",
    ]


def _on_thresholds(rng, count):
    """Truths (x, y, width, height) of one decimal, and detections so low that the IoU is a threshold."""
    truths, results = [], []
    for i in range(count):
        x, y, width = (round(float(v), 1) for v in rng.uniform(1, 200, 3))
        iou = rng.integers(10, 20) / 20
        height = round(float(rng.integers(2, 12)) * 20 * 0.1, 1)
        truths.append({"id": i + 1, "image_id": i, "bbox": [x, y, width, height]})
        results.append({"image_id": i, "category_id": 1, "bbox": [x, y, width, round(height * iou, 2)]})
    for truth in truths:
        truth |= {"category_id": 1, "iscrowd": 0, "area": truth["bbox"][2] * truth["bbox"][3]}
    for i, result in enumerate(results):
        result["score"] = round(0.9 - 0.001 * i, 4)
    return truths, results


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_an_iou_on_a_threshold_is_decided_as_coco_decides_it(seed, predictions, tmp_path):
    """Through a COCO file, its records and float32 predictions, whose corners are not the file's numbers."""
    if seed is None:
        truths = [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [92.3, 12.2, 41, 24.6], "iscrowd": 0}]
        truths[0]["area"] = 41 * 24.6
        results = [{"image_id": 0, "category_id": 1, "bbox": [92.3, 12.2, 41, 12.3], "score": 0.9}]
    else:
        truths, results = _on_thresholds(np.random.default_rng(seed), 60)
    images = [{"id": i, "file_name": f"{i}.png", "height": 500, "width": 500} for i in range(len(truths))]
    content = {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    for image in images:
        (tmp_path / image["file_name"]).touch()
    source = CocoDetection(tmp_path / "data.json", tmp_path)
    records = [source.record(i) for i in range(len(source))]
    found = []
    for result in results:
        x, y, width, height = result["bbox"]
        found.append(([[x, y, x + width, y + height]], [result["score"]], [0]))
    evaluator = CocoEvaluator(records, ("a",))
    evaluator.add(*predictions(records, found))
    metrics = evaluator.report().metrics
    expected = pycocotools_metrics(content, results)
    for name in NAMES:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=0, atol=1e-7, err_msg=name)
    if seed is None:
        assert metrics["AP50"] == 1
