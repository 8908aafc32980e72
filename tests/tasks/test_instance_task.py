"""Instance segmentation, from a data set's name to figures, with an oracle as the model."""

import json

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.codecs.masks import decode_runs, unpack_runs
from vision_jax.data.fields.masks import render_mask
from vision_jax.data.open import open_instances
from vision_jax.data.transforms.augment import Augment
from vision_jax.tasks import InstanceTask
from vision_jax.types import DetectionSpec, InstanceBatch, Instances, UserError

SPEC = "synthetic?length=5&val_length=4&canvas=96"


def oracle(batch: InstanceBatch) -> Instances:
    """Answers with the truth of a batch of crops, 28 cells a side as a model would."""
    valid = np.asarray(batch.valid)
    b, n = valid.shape
    masks = np.asarray(batch.masks, np.float32).reshape(b, n, 28, 4, 28, 4).mean((3, 5)) / 255
    return Instances(
        boxes=batch.boxes,
        scores=np.where(valid, 0.9, 0).astype(np.float32),  # type: ignore[arg-type]
        labels=np.where(valid, batch.labels, -1),  # type: ignore[arg-type]
        valid=valid,  # type: ignore[arg-type]
        masks=masks,  # type: ignore[arg-type]
    )


def evaluated(data, change=lambda found: found):
    evaluators = data.evaluators()
    for batch in data.once("val", 2):
        for evaluator in evaluators:
            evaluator.add(batch, change(oracle(batch)))
    (report,) = [evaluator.report() for evaluator in evaluators]
    return report


def test_the_truth_scores_nearly_1_through_resizing_and_back(tmp_path):
    report = evaluated(InstanceTask(SPEC, canvas=(64, 64)).open(None))
    assert report.metrics["AP"] == pytest.approx(1.0)
    assert report.metrics["mask/AP50"] == pytest.approx(1.0)
    assert report.metrics["mask/AP"] > 0.7  # pasting goes by whole pixels, and these objects are small
    report.files["predictions.json"](tmp_path / "p.json")
    assert all("segmentation" in found for found in json.loads((tmp_path / "p.json").read_text()))


def test_masks_that_are_elsewhere_score_less_than_their_boxes():
    data = InstanceTask(SPEC).open(None)
    report = evaluated(data, lambda found: found.replace(masks=1 - found.masks))
    assert report.metrics["AP"] == pytest.approx(1.0)
    assert report.metrics["mask/AP"] < 0.3


def test_overfitting_is_evaluated_on_its_own_images():
    few = InstanceTask(SPEC, augment=Augment(hflip=1)).open(None).overfit(2)
    ids = np.concatenate([batch.id[batch.example_valid] for batch in few.once("val", 2)])
    np.testing.assert_array_equal(np.sort(ids), [0, 1])
    report = evaluated(few)
    assert report.metrics["mask/AP50"] == pytest.approx(1.0)
    assert "2 images" in report.tables["per_class_ap.md"]


@pytest.mark.parametrize("canvas", [(96, 96), (160, 160)])
def test_crops_and_bitmaps_are_the_same_masks(canvas):
    crops, full = (InstanceTask(SPEC, canvas, masks=kind).open(None) for kind in ("crops", "full"))
    for cut, whole in zip(crops.once("val", 2), full.once("val", 2), strict=True):
        np.testing.assert_array_equal(cut.image, whole.image)
        np.testing.assert_array_equal(cut.boxes, whole.boxes)
        assert cut.masks.shape[2:] == (112, 112)
        assert whole.masks.shape[2:] == canvas
        assert (whole.frames == [0, 0, *canvas]).all()
        for b, n in np.argwhere(cut.valid):
            mask = render_mask(cut.masks[b, n], cut.frames[b, n], *canvas) > 127
            bitmap = whole.masks[b, n] > 127
            assert (mask & bitmap).sum() / (mask | bitmap).sum() > 0.9


def test_training_is_augmented_with_its_masks():
    plain = next(iter(InstanceTask(SPEC).open(None).overfit(5).once("val", 5)))
    batch = next(InstanceTask(SPEC, augment=Augment(hflip=1)).open(None).train(5, 0, 0))
    for b, id in enumerate(batch.id):
        np.testing.assert_array_equal(batch.image[b], plain.image[id, :, ::-1])
        np.testing.assert_array_equal(batch.masks[b], plain.masks[id, :, :, ::-1])


def test_images_need_no_data_when_the_canvas_is_known():
    task, spec = InstanceTask("coco:/there/is/nothing", mask_size=7), DetectionSpec(("a",), (64, 32))
    batch = task.prepare([np.full((100, 200, 3), 9, np.uint8)], [3], spec)
    assert isinstance(batch, InstanceBatch)
    assert batch.image.shape == (1, 32, 64, 3)
    assert batch.masks.shape == (1, 1, 7, 7)
    assert not batch.valid.any()


def test_answers_are_in_the_images_pixels():
    task, spec = InstanceTask(SPEC), DetectionSpec(("a", "b", "c"), (64, 32))
    batch = task.prepare([np.zeros((100, 200, 3), np.uint8)], [7], spec)
    left = np.zeros((2, 8, 8), np.float32)
    left[0, :, :4] = 1
    found = Instances(
        boxes=np.array([[[16, 8, 48, 24], [0, 0, 1, 1]]], np.float32),  # type: ignore[arg-type]
        scores=np.array([[0.75, 0]], np.float32),  # type: ignore[arg-type]
        labels=np.array([[2, -1]], np.int32),  # type: ignore[arg-type]
        valid=np.array([[True, False]]),  # type: ignore[arg-type]
        masks=left[None],  # type: ignore[arg-type]
    )
    (((answer,)),) = task.to_json(batch, found, spec)
    shape = answer.pop("segmentation")
    assert answer == {
        "image_id": 7, "category_id": 3, "category": "c", "bbox": [50.0, 25.0, 100.0, 50.0], "score": 0.75
    }  # fmt: skip
    assert shape["size"] == [100, 200]
    mask = decode_runs(unpack_runs(shape["counts"]), 100, 200)
    expected = np.zeros((100, 200), bool)
    expected[25:75, 50:100] = True  # the left half of the box
    assert (mask & expected).sum() / (mask | expected).sum() > 0.93
    json.dumps(answer | {"segmentation": shape})


@pytest.fixture
def coco(tmp_path):
    """One image with a polygon, a packed crowd and an object of unknown shape."""
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(tmp_path / "images/a.png")
    crowd = {"size": [32, 64], "counts": [32 * 40 + 4, 8, 24, 8, 32 * 64 - 32 * 40 - 44]}
    shapes = ([[2, 3, 12, 3, 12, 23, 2, 23]], crowd, [])
    boxes = ([2, 3, 10, 20], [40, 4, 2, 8], [20, 20, 9, 9])
    annotations = [
        {"id": i + 1, "image_id": 1, "category_id": 5, "bbox": box, "segmentation": shape, "iscrowd": i == 1}
        for i, (box, shape) in enumerate(zip(boxes, shapes, strict=True))
    ]
    image = {"id": 1, "file_name": "a.png", "height": 32, "width": 64}
    content = {"images": [image], "annotations": annotations, "categories": [{"id": 5, "name": "x"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return f"coco:{tmp_path}"


@pytest.mark.parametrize("kind", ["crops", "full"])
def test_polygons_crowds_and_unknown_shapes_reach_the_batch(coco, kind):
    data = InstanceTask(coco, canvas=(64, 32), masks=kind).open(None)
    (batch,) = data.once("val", 1)
    np.testing.assert_array_equal(batch.valid, [[True, False, True]])
    np.testing.assert_array_equal(batch.ignore, [[False, True, False]])
    rendered = [render_mask(m, f, 32, 64) > 127 for m, f in zip(batch.masks[0], batch.frames[0], strict=True)]
    np.testing.assert_array_equal(rendered, open_instances(coco)[0].masks(0))
    np.testing.assert_array_equal(np.sum(rendered, axis=(1, 2)), [200, 16, 0])


def test_a_summary_plots_a_batch(tmp_path):
    report = InstanceTask(SPEC).open(None).summary()
    assert report.metrics["train/images"] == 5
    report.write(tmp_path)
    assert (tmp_path / "data.png").stat().st_size > 1000


def test_impossible_arguments_are_refused():
    with pytest.raises(UserError, match="mask_size is 0"):
        InstanceTask(SPEC, mask_size=0)
    with pytest.raises(UserError, match="long side first"):
        InstanceTask(SPEC, canvas=(240, 320))
