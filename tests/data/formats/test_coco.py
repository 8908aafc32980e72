"""COCO folders: boxes, labels, crowds, masks, splits and orientation, against numbers worked by hand."""

import json
import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.paths import SHARED
from vision_jax.data.formats.coco.detection import CocoDetection
from vision_jax.data.open import open_detection

MINI = SHARED / "data/coco_mini"
needs_mini = pytest.mark.skipif(not MINI.is_dir(), reason=f"the real COCO images are not at {MINI}")


def _save(path, height=20, width=30, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


def _annotation(id, image, category, box, **more):
    return {"id": id, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, **more}


def _content(images, annotations, categories=((3, "dog"), (7, "cat"), (5, "bird"))):
    return {
        "images": [{"id": id, "file_name": name, "height": 20, "width": 30} for id, name in images],
        "annotations": annotations,
        "categories": [{"id": id, "name": name} for id, name in categories],
    }


@pytest.fixture
def folder(tmp_path):
    """Two images to train on, one to evaluate on, in COCO's own layout."""
    for name in ("train2017/a.png", "train2017/b.png", "val2017/c.png"):
        _save(tmp_path / name, value=ord(name[-5]))
    train = _content(
        [(42, "a.png"), (7, "b.png")],
        [
            _annotation(1, 7, 7, [1, 2, 3, 4], area=9.5),
            _annotation(2, 42, 3, [10, 5, 20, 15], segmentation=[[10, 5, 14, 5, 14, 9, 10, 9]]),
            _annotation(
                3, 42, 5, [0, 0, 2, 2], iscrowd=1, segmentation={"size": [20, 30], "counts": [0, 2, 598]}
            ),
        ],
    )
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps(train))
    (tmp_path / "annotations/captions_train2017.json").write_text("{}")
    val = _content([(9, "c.png")], [_annotation(1, 9, 5, [0.5, 0.5, 1.25, 1])])
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(val))
    return tmp_path


def test_records_hold_boxes_classes_and_crowds(folder):
    train, val = open_detection(f"coco:{folder}")
    assert (len(train), len(val)) == (2, 1)
    assert train.classes == val.classes == ("dog", "bird", "cat")  # by category id: 3, 5, 7
    assert train.category_ids == (3, 5, 7)
    first = train.record(0)
    assert (first.id, first.name, first.height, first.width) == (42, "a.png", 20, 30)
    np.testing.assert_array_equal(first.boxes, [[10, 5, 30, 20], [0, 0, 2, 2]])
    np.testing.assert_array_equal(first.labels, [0, 1])
    np.testing.assert_array_equal(first.ignore, [False, True])
    np.testing.assert_array_equal(first.area, [300, 4])  # no area in the file: the box's
    second = train.record(1)
    np.testing.assert_array_equal(second.boxes, [[1, 2, 4, 6]])
    np.testing.assert_array_equal(second.area, [9.5])
    np.testing.assert_array_equal(val.record(0).boxes, [[0.5, 0.5, 1.75, 1.5]])
    assert (first.boxes.dtype, first.labels.dtype, first.area.dtype) == (np.float64, np.int32, np.float64)
    assert [int(source.image(i)[0, 0, 0]) for source, i in ((train, 0), (train, 1), (val, 0))] == [
        ord("a"), ord("b"), ord("c"),
    ]  # fmt: skip


def test_polygons_and_runs_become_masks(folder):
    train, _ = open_detection(f"coco:{folder}")
    masks = train.masks(0)
    expected = np.zeros((2, 20, 30), bool)
    expected[0, 5:9, 10:14] = True
    expected[1, :2, 0] = True  # runs go down the columns
    np.testing.assert_array_equal(masks, expected)
    assert train.masks(1).shape == (1, 20, 30)
    assert not train.masks(1).any()  # no segmentation in the file


def test_segmentations_are_those_of_the_file(folder):
    path = folder / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    two = [[1.25, 2, 3, 2, 3, 5.5], [0, 0, 1, 0, 1, 1, 0, 1]]
    content["annotations"] += [
        _annotation(4, 42, 3, [1, 1, 5, 5], segmentation=two),
        _annotation(5, 42, 3, [0, 0, 2, 2], segmentation={"size": [20, 30], "counts": "022bb0"}),
    ]
    path.write_text(json.dumps(content))
    train, _ = open_detection(f"coco:{folder}")
    polygon, crowd, twin, packed = train.segmentations(0)
    assert (polygon, twin) == ([[10, 5, 14, 5, 14, 9, 10, 9]], two)
    assert packed == {"size": [20, 30], "counts": "022bb0"}
    assert crowd == {"size": [20, 30], "counts": "02fb0"}  # 0, 2, 598
    assert train.segmentations(1) == [[]]
    coco = pytest.importorskip("pycocotools.mask")
    for shape, mask in ((crowd, 1), (packed, 3)):
        np.testing.assert_array_equal(coco.decode(shape), train.masks(0)[mask])


def test_image_without_annotations_is_kept(tmp_path, caplog):
    _save(tmp_path / "images/a.png")
    _save(tmp_path / "images/b.png")
    content = _content([(1, "a.png"), (2, "b.png")], [_annotation(1, 2, 3, [0, 0, 5, 5])])
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, same = open_detection(f"coco:{tmp_path}")
    assert source is same
    assert "one split only" in caplog.text
    assert len(source) == 2
    empty = source.record(0)
    assert (empty.boxes.shape, empty.labels.shape, empty.id) == ((0, 4), (0,), 1)
    assert source.masks(0).shape == (0, 20, 30)


def test_classes_of_a_run_are_matched_by_name(folder):
    train, _ = open_detection(f"coco:{folder}", ("cat", "horse", "bird", "dog"))
    assert train.classes == ("cat", "horse", "bird", "dog")
    np.testing.assert_array_equal(train.record(0).labels, [3, 2])
    np.testing.assert_array_equal(train.record(1).labels, [0])
    assert train.category_ids[0::2] == (7, 5)
    assert train.category_ids[1] not in (3, 5, 7)


def test_splits_with_other_categories_share_classes(folder):
    path = folder / "annotations/instances_val2017.json"
    content = _content([(9, "c.png")], [_annotation(1, 9, 1, [0, 0, 9, 9])], [(1, "cow"), (2, "dog")])
    path.write_text(json.dumps(content))
    train, val = open_detection(f"coco:{folder}")
    assert train.classes == val.classes == ("dog", "bird", "cat", "cow")
    np.testing.assert_array_equal(val.record(0).labels, [3])
    assert (val.category_ids[3], val.category_ids[0]) == (1, 2)


@pytest.mark.parametrize(
    ("json_at", "images_at"),
    [
        ("annotations/{}.json", "images/{}"),
        ("annotations/instances_{}.json", "images"),
        ("{}.json", "{}"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}/annotations.json", "{}/images"),
    ],
)
@pytest.mark.parametrize("evaluated", ["val", "valid", "test"])
def test_the_usual_folder_layouts_are_found(tmp_path, json_at, images_at, evaluated):
    for split in ("train", evaluated):
        _save(tmp_path / images_at.format(split) / f"{split}.png")
        path = tmp_path / json_at.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"captions_{split}.json").write_text("{}")  # passed over
        path.write_text(json.dumps(_content([(1, f"{split}.png")], [_annotation(1, 1, 3, [0, 0, 5, 5])])))
    train, val = open_detection(f"coco:{tmp_path}")
    assert (train.record(0).name, val.record(0).name) == ("train.png", f"{evaluated}.png")
    assert val.image(0).shape == (20, 30, 3)


def test_one_json_and_holdout(tmp_path):
    for number in range(10):
        _save(tmp_path / f"images/{number}.png")
    images = [(number, f"{number}.png") for number in range(10)]
    content = _content(images, [_annotation(n, n, 3, [n, 0, 5, 5]) for n in range(10)])
    (tmp_path / "objects.json").write_text(json.dumps(content))
    opened = [open_detection(f"coco:{tmp_path}/objects.json?holdout=0.3") for _ in range(2)]
    names = [[[s.record(i).name for i in range(len(s))] for s in pair] for pair in opened]
    assert names[0] == names[1]
    assert (len(names[0][0]), len(names[0][1])) == (7, 3)
    assert sorted(names[0][0] + names[0][1]) == [name for _, name in images]
    for source in opened[0]:
        for index in range(len(source)):
            assert source.record(index).boxes[0, 0] == source.record(index).id


def test_a_pickled_source_reads_the_same(folder):
    train, _ = open_detection(f"coco:{folder}")
    copy = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(copy.record(0).boxes, train.record(0).boxes)
    np.testing.assert_array_equal(copy.image(1), train.image(1))
    np.testing.assert_array_equal(copy.masks(0), train.masks(0))


@pytest.mark.parametrize(("height", "width", "turned"), [(30, 20, True), (20, 30, False), (None, None, True)])
def test_the_size_in_the_json_decides_about_exif(tmp_path, height, width, turned):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.arange(20 * 30 * 3, dtype=np.int64).reshape(20, 30, 3).astype(np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    content = _content([(1, "a.png")], [_annotation(1, 1, 3, [0, 0, 10, 25])])
    content["images"][0].update(height=height, width=width)
    (tmp_path / "x.json").write_text(json.dumps(content))
    source = CocoDetection(tmp_path / "x.json", tmp_path)
    np.testing.assert_array_equal(source.image(0), np.rot90(stored, -1) if turned else stored)
    record = source.record(0)
    assert (record.height, record.width) == source.image(0).shape[:2]
    assert record.boxes[0, 3] == (25 if turned else 20)


@needs_mini
def test_part_of_coco_opens_whole(caplog):
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_detection(f"coco:{MINI}")
    assert caplog.text == ""
    assert (len(train), len(val), len(train.classes)) == (80, 79, 80)
    assert train.category_ids[-1] == 90
    truth = json.loads((MINI / "annotations/instances_train2017.json").read_text())
    assert sum(len(train.record(i).boxes) for i in range(80)) == len(truth["annotations"]) == 739
    crowds = sum(int(train.record(i).ignore.sum()) for i in range(80))
    assert crowds == sum(a["iscrowd"] for a in truth["annotations"]) == 8
    for index in (0, 17):
        record = train.record(index)
        theirs = [a for a in truth["annotations"] if a["image_id"] == record.id]
        x, y, w, h = np.array([a["bbox"] for a in theirs]).T
        np.testing.assert_allclose(record.boxes, np.stack([x, y, x + w, y + h], 1), atol=1e-3)
        assert [train.category_ids[k] for k in record.labels] == [a["category_id"] for a in theirs]
        assert train.image(index).shape == (record.height, record.width, 3)


@needs_mini
def test_real_masks_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.coco")
    _, val = open_detection(f"coco:{MINI}")
    theirs = coco.COCO(str(MINI / "annotations/instances_val2017.json"))
    worst = 1.0
    for index in range(0, len(val), 4):
        record = val.record(index)
        annotations = theirs.imgToAnns[record.id]
        shapes = val.segmentations(index)
        for ours, shape, annotation in zip(val.masks(index), shapes, annotations, strict=True):
            expected = theirs.annToMask(annotation) > 0
            rasterized = theirs.annToMask({**annotation, "segmentation": shape}) > 0
            np.testing.assert_array_equal(rasterized, expected)
            if annotation["iscrowd"]:
                np.testing.assert_array_equal(ours, expected)
            elif expected.sum() > 1000:
                worst = min(worst, (ours & expected).sum() / (ours | expected).sum())
    assert worst > 0.9


def test_run_lengths_are_held_against_their_own_image(tmp_path):
    _save(tmp_path / "a.png", 20, 30)
    _save(tmp_path / "b.png", 4, 5)
    runs = [{"size": [4, 5], "counts": [3, 1, 16]}, {"size": [20, 30], "counts": [0, 600]}]
    content = _content(
        [(1, "a.png"), (2, "b.png")],
        [
            _annotation(1, 2, 3, [9, 9, 9, 9]),  # outside b.png: dropped, so that the rest moves up
            _annotation(2, 2, 3, [0, 0, 4, 4], segmentation=runs[0]),
            _annotation(3, 1, 3, [0, 0, 9, 9], segmentation=runs[1]),
        ],
    )
    content["images"][1].update(height=4, width=5)
    (tmp_path / "x.json").write_text(json.dumps(content))
    source = CocoDetection(tmp_path / "x.json", tmp_path)
    assert source.masks(0).shape == (1, 20, 30)
    assert source.masks(0).all()
    assert np.argwhere(source.masks(1)).tolist() == [[0, 3, 0]]
