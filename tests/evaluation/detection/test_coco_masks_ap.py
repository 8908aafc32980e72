"""Mask AP against pycocotools, boundary AP against faster-coco-eval's, and cases worked by hand."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vision_jax.evaluation import CocoEvaluator, CocoInstanceEvaluator
from vision_jax.ops.masks import paste_mask

SIZE = (160, 200)
CLASSES = ("a", "b", "c")
NAMES = {
    "AP": (None, 0),
    "AP50": (0.5, 0),
    "AP75": (0.75, 0),
    "AP/small": (None, 1),
    "AP/medium": (None, 2),
    "AP/large": (None, 3),
}


def ellipse(cells, rng):
    """A soft, rather round mask over its box, with a random dent."""
    y, x = (np.mgrid[:cells, :cells] + 0.5) / cells * 2 - 1
    dent = np.hypot(x - rng.uniform(-1, 1), y - rng.uniform(-1, 1)) - rng.uniform(-0.8, 0.4)
    return 1 / (1 + np.exp(-12 * np.minimum(0.9 - np.hypot(x, y), dent)))


def random_split(seed, record, images=10):
    """Truth of all sizes with crowds, its COCO shapes, and predictions near it, weakened and invented."""
    rng = np.random.default_rng(seed)
    records, shapes, found, masks = [], [], [], []
    for id in range(images):
        n = 0 if id == 4 else int(rng.integers(1, 9))
        side = np.exp(rng.uniform(np.log(8), np.log(155), (n, 2)))
        corner = rng.random((n, 2)) * (np.array(SIZE[::-1]) - side)
        boxes = np.concatenate([corner, corner + side], axis=1)
        labels = rng.integers(0, 3, n)
        records.append(record(5 * id + 2, boxes, labels, rng.random(n) < 0.2, SIZE))
        shapes.append([])
        for i, (x1, y1, x2, y2) in enumerate(boxes):
            turn, radius = np.arange(20) / 20 * 2 * np.pi, rng.uniform(0.8, 1, 20)
            x = (x1 + x2 + (x2 - x1) * radius * np.cos(turn)) / 2
            y = (y1 + y2 + (y2 - y1) * radius * np.sin(turn)) / 2
            shape = [np.stack([x, y], 1).ravel().tolist()]
            if records[-1].ignore[i]:
                packed = coco_mask.merge(coco_mask.frPyObjects(shape, *SIZE))
                shape = {"size": list(SIZE), "counts": packed["counts"].decode()}
            shapes[-1].append(shape)
        records[-1].area[:] *= 0.7
        copies = rng.integers(0, 4, n)
        near = np.repeat(boxes, copies, axis=0) + rng.normal(0, 0.7, (copies.sum(), 4))
        start = rng.random((4, 2)) * 60
        invented = np.concatenate([start, start + rng.random((4, 2)) * 80 + 3], axis=1)
        every = np.clip(np.concatenate([near, invented]), 0, SIZE[::-1] * 2).astype(np.float32)
        kinds = np.concatenate([np.repeat(labels, copies), rng.integers(0, 3, 4)]).tolist()
        found.append((every.tolist(), rng.random(len(every)).round(2).tolist(), kinds))
        masks.append(np.array([ellipse(28, rng) for _ in every], np.float32))
    return records, shapes, found, masks


def truth_json(records, shapes, classes=CLASSES):
    annotations = []
    for r, each in zip(records, shapes, strict=True):
        for i, shape in enumerate(each):
            x1, y1, x2, y2 = r.boxes[i].astype(float)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": r.id, "category_id": int(r.labels[i]) + 1}
                | {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": shape}
                | {"area": float(r.area[i]), "iscrowd": int(r.ignore[i])}
            )
    return {
        "images": [{"id": r.id, "height": r.height, "width": r.width} for r in records],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(classes)],
    }


def results_json(records, found, masks):
    """Each prediction pasted into the whole image and encoded by pycocotools; no boxes."""
    results = []
    for r, (boxes, scores, labels), each in zip(records, found, masks, strict=True):
        for box, score, label, mask in zip(boxes, scores, labels, each, strict=True):
            pasted = paste_mask(mask, np.array(box, np.float32), SIZE)
            packed = coco_mask.encode(np.asfortranarray(pasted.astype(np.uint8)))
            results.append(
                {"image_id": r.id, "category_id": label + 1, "score": float(np.float32(score))}
                | {"segmentation": {"size": list(SIZE), "counts": packed["counts"].decode()}}
            )
    return results


def averages(protocol, prefix):
    metrics = {}
    for name, (iou, area) in NAMES.items():
        values = protocol.eval["precision"][..., area, 2]
        values = values if iou is None else values[np.isclose(protocol.params.iouThrs, iou)]
        metrics[prefix + name] = values[values > -1].mean() if (values > -1).any() else math.nan
    return metrics


def peers_metrics(truth, results):
    """Mask AP by pycocotools, boundary AP by faster-coco-eval's own mode."""
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    metrics = {}
    for kind, loader, evaluator, prefix in (
        ("segm", COCO, COCOeval, "mask/"),
        ("boundary", FasterCOCO, COCOeval_faster, "boundary/"),
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            split = loader()
            split.dataset = json.loads(json.dumps(truth))
            split.createIndex()
            protocol = evaluator(split, split.loadRes(json.loads(json.dumps(results))), kind)
            protocol.evaluate()
            protocol.accumulate()
        metrics |= averages(protocol, prefix)
    return {name: value for name, value in metrics.items() if not name.startswith("boundary/AP/")}


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_peers_with_crowds_sizes_and_coco_shapes(
    seed, coco_shapes_source, record, predictions, instances, tmp_path
):
    records, shapes, found, masks = random_split(seed, record)
    evaluator = CocoInstanceEvaluator(coco_shapes_source(records, shapes), CLASSES, [3, 7, 9])
    for part in ([5, 3, 8, 1, 0], [9, 2, 4, 7, 6]):
        some = predictions([records[i] for i in part], [found[i] for i in part], scale=0.5)
        evaluator.add(*instances(*some, [masks[i] for i in part]))
    report = evaluator.report()
    expected = peers_metrics(truth_json(records, shapes), results_json(records, found, masks))
    assert 0.1 < expected["boundary/AP"] < expected["mask/AP"] < 0.8
    for name, value in expected.items():
        np.testing.assert_allclose(report.metrics[name], value, rtol=0, atol=1e-7, err_msg=name)

    boxes = CocoEvaluator(records, CLASSES)
    boxes.add(*predictions(records, found))
    for name, value in boxes.report().metrics.items():
        np.testing.assert_allclose(report.metrics[name], value, rtol=0, atol=1e-7, err_msg=name)

    report.write(tmp_path)
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert {r["category_id"] for r in written} == {3, 7, 9}
    assert len(written) == sum(len(scores) for _, scores, _ in found)
    for result in written:
        del result["bbox"]
        result["category_id"] = [3, 7, 9].index(result["category_id"]) + 1
    again = peers_metrics(truth_json(records, shapes), written)
    for name, value in again.items():
        np.testing.assert_allclose(report.metrics[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_bitmaps_score_as_the_shapes_rasterized_in_them(
    bitmap_source, coco_shapes_source, record, predictions, instances
):
    records, shapes, found, masks = random_split(2, record)
    bitmaps = []
    for each in shapes:
        merged = [
            s if isinstance(s, dict) else coco_mask.merge(coco_mask.frPyObjects(s, *SIZE)) for s in each
        ]
        bitmaps.append(np.array([coco_mask.decode(s) for s in merged], bool).reshape(-1, *SIZE))
    # A polygon too small to hold a pixel is an object for COCO, but a bitmap without a pixel is no shape.
    assert all(mask.any() for each in bitmaps for mask in each)
    metrics = []
    for source in (coco_shapes_source(records, shapes), bitmap_source(records, bitmaps)):
        evaluator = CocoInstanceEvaluator(source, CLASSES)
        evaluator.add(*instances(*predictions(records, found), masks))
        metrics.append(evaluator.report().metrics)
    np.testing.assert_equal(metrics[0], metrics[1])


def rectangles(boxes):
    masks = np.zeros((len(boxes), *SIZE), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


# Pasted, it fills its box but for the rounding of the corners.
FULL = np.ones((28, 28), np.float32)


def test_the_mask_decides_not_the_box(bitmap_source, record, predictions, instances):
    # Two objects in boxes found exactly; one's mask is right, the other's holds the wrong half of its box.
    boxes = [[10, 10, 70, 70], [80, 10, 140, 70]]
    truth = [record(0, boxes, [0, 1], size=SIZE)]
    shapes = rectangles(boxes)
    shapes[1, :, 110:] = False
    half = FULL * (np.arange(28) >= 14)
    evaluator = CocoInstanceEvaluator(bitmap_source(truth, [shapes]), ("right", "wrong"))
    evaluator.add(*instances(*predictions(truth, [(boxes, [0.9, 0.8], [0, 1])]), [np.array([FULL, half])]))
    report = evaluator.report()
    assert report.metrics["AP"] == 1
    assert report.metrics["mask/AP50"] == report.metrics["boundary/AP50"] == 0.5
    lines = [
        [c.strip() for c in line.split("|")[1:-1]] for line in report.tables["per_class_ap.md"].splitlines()
    ]
    assert lines[0] == ["class", "box AP", "mask AP", "mask AP50", "boundary AP", "objects", "ignored"]
    assert lines[2][:2] == ["right", "1.000"]
    assert lines[2][3] == "1.000"
    assert lines[3] == ["wrong", "1.000", "0.000", "0.000", "0.000", "1", "0"]
    assert "Masks by size: small -, medium " in report.tables["per_class_ap.md"]


def test_an_object_of_unknown_shape_is_wanted_by_box_ap_alone(bitmap_source, record, predictions, instances):
    boxes = [[10, 10, 70, 70], [80, 10, 140, 70]]
    truth = [record(0, boxes, [0, 0], size=SIZE)]
    shapes = rectangles(boxes)
    shapes[1] = False
    # A prediction in the object of unknown shape is not wrong, one elsewhere is; it is the strongest.
    found = [[85, 15, 135, 65], [20, 80, 60, 110], boxes[0]]
    for scores, ap50 in (([0.9, 0.1, 0.8], 1), ([0.8, 0.9, 0.7], 0.5)):
        evaluator = CocoInstanceEvaluator(bitmap_source(truth, [shapes]), ("thing",))
        evaluator.add(*instances(*predictions(truth, [(found, scores, [0] * 3)]), [np.array([FULL] * 3)]))
        report = evaluator.report()
        assert report.metrics["mask/AP50"] == report.metrics["boundary/AP50"] == pytest.approx(ap50)
    assert "| thing    |" in report.tables["per_class_ap.md"]
    assert "1 objects have no known shape" in report.tables["per_class_ap.md"]
    nothing = CocoInstanceEvaluator(bitmap_source(truth, [shapes]), ("thing",)).report().metrics
    assert nothing["AP"] == nothing["mask/AP"] == 0


def test_nothing_to_find_is_undefined(bitmap_source, record, predictions, instances):
    truth = [record(0, [], [], size=SIZE)]
    evaluator = CocoInstanceEvaluator(bitmap_source(truth, [np.zeros((0, *SIZE), bool)]), ("thing",))
    evaluator.add(*instances(*predictions(truth, [([[0, 0, 9, 9]], [0.9], [0])]), [FULL[None]]))
    metrics = evaluator.report().metrics
    assert math.isnan(metrics["mask/AP"])
    assert math.isnan(metrics["boundary/AP75"])
