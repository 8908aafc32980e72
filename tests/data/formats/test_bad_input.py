"""Bad input: one message that names file and record; what is clipped or dropped is counted and said once."""

import gzip
import json
import logging
import math

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.open import open_classification, open_detection, open_segmentation
from vision_jax.types import UserError


def _save(path, size=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)


def _coco(root, annotations=(), images=((1, "a.png"), (2, "b.png")), categories=((1, "dog"), (4, "cat"))):
    """A COCO folder of one split, from (id, image, category, box, more)."""
    for _, name in images:
        _save(root / "images" / name)
    content = {
        "images": [{"id": id, "file_name": name, "height": 20, "width": 30} for id, name in images],
        "annotations": [
            {"id": id, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, **more}
            for id, image, category, box, more in annotations
        ],
        "categories": [{"id": id, "name": name} for id, name in categories],
    }
    (root / "data.json").write_text(json.dumps(content))
    return content


def _rewrite(root, content):
    (root / "data.json").write_text(json.dumps(content))


BOX = (1, 1, 1, [2, 2, 5, 5], {})


def test_boxes_are_clipped_or_dropped_and_counted_once(tmp_path, caplog):
    boxes = [
        [2, 2, 5, 5], [5, 5, 0, 3], [5, 5, 3, -1], [6, 6, -2, 4],  # the last three have no size
        [40, 2, 5, 5], [-9, 2, 9, 5],  # outside, the last one touching the border
        [-2, 3, 12, 4], [25, 15, 10, 10],  # over the border
        [math.nan, 1, 2, 2], [1, 1, math.inf, 2],
    ]  # fmt: skip
    _coco(tmp_path, [(10 + i, 1, 4, box, {"area": 50 + i}) for i, box in enumerate(boxes)])
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, _ = open_detection(f"coco:{tmp_path}")
    record = source.record(0)
    np.testing.assert_array_equal(record.boxes, [[2, 2, 7, 7], [0, 3, 10, 7], [25, 15, 30, 20]])
    np.testing.assert_array_equal(record.area, [50, 56, 57])
    assert source.masks(0).shape[0] == 3
    report = [entry.getMessage() for entry in caplog.records if "dropped" in entry.getMessage()]
    assert len(report) == 1
    assert "data.json" in report[0]
    for line in (
        "3 boxes of zero or negative size, dropped (first: annotation 11 of image 1: x1 5, y1 5, x2 5, y2 8)",
        "2 boxes outside their image, dropped (first: annotation 14 of image 1",
        "2 boxes reaching over their image's border, clipped (first: annotation 16 of image 1",
        "2 boxes with coordinates that are not finite, dropped (first: annotation 18 of image 1",
    ):
        assert line in report[0]


def test_rounding_at_the_border_is_not_reported(tmp_path, caplog):
    _coco(tmp_path, [(1, 1, 1, [2, 2, 28.004, 5], {}), (2, 2, 1, [2, 2, 5, 5], {})])
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, _ = open_detection(f"coco:{tmp_path}")
    assert "clipped" not in caplog.text
    assert source.record(0).boxes[0, 2] == 30


def test_shapes_that_cannot_be_are_left_out_and_their_boxes_kept(tmp_path, caplog):
    triangle = [2, 2, 7, 2, 2, 7]
    shapes = [
        [triangle, [3, 3, 4, 4]], [[3, 3]], [[1, 2, 3, 4, 5, 6, 7]], [],
        {"size": [20, 30], "counts": [0, 600]}, {"size": [20, 30], "counts": [0, 599]},
        {"size": [30, 20], "counts": [0, 600]}, {"size": [20, 30], "counts": "o"}, {"size": [20, 30]},
    ]  # fmt: skip
    _coco(tmp_path, [(i, 1, 1, [2, 2, 5, 5], {"segmentation": shape}) for i, shape in enumerate(shapes)])
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, _ = open_detection(f"coco:{tmp_path}")
    assert len(source.record(0).boxes) == len(shapes)
    masks = source.masks(0)
    np.testing.assert_array_equal(masks.any((1, 2)), [1, 0, 0, 0, 1, 0, 0, 0, 0])
    assert masks[4].all()
    assert (
        masks[0].sum() == 10
    )  # pixels with x + y < 9 from (2, 2): 4 + 3 + 2 + 1, the diagonal's are outside
    assert "3 polygons under 3 points or malformed, left out of masks (first: annotation 0" in caplog.text
    assert "4 run lengths that do not fit their image, left out of masks (first: annotation 5" in caplog.text


def test_annotations_of_unknown_images(tmp_path, caplog):
    _coco(tmp_path, [BOX, (2, 77, 1, [0, 0, 5, 5], {}), (3, 78, 1, [0, 0, 5, 5], {})])
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, _ = open_detection(f"coco:{tmp_path}")
    assert [len(source.record(i).boxes) for i in range(2)] == [1, 0]
    assert "2 annotations of unknown images, dropped (first: annotation 2 of image 77)" in caplog.text
    _coco(tmp_path, [(2, 77, 1, [0, 0, 5, 5], {})])
    with pytest.raises(UserError, match=r"data\.json: none of its 1 annotations belongs .* annotation 2 of"):
        open_detection(f"coco:{tmp_path}")


def test_duplicate_image_ids_are_refused(tmp_path):
    _coco(tmp_path, [BOX], images=((5, "a.png"), (5, "b.png")))
    with pytest.raises(UserError, match=r"data\.json: image id 5 occurs twice"):
        open_detection(f"coco:{tmp_path}")
    _coco(tmp_path, [BOX, BOX])
    with pytest.raises(UserError, match=r"data\.json: annotation id 1 occurs twice"):
        open_detection(f"coco:{tmp_path}")
    _coco(tmp_path, [BOX], categories=((1, "dog"), (2, "dog")))
    with pytest.raises(UserError, match=r"data\.json: categories 1 and 2 are both 'dog'"):
        open_detection(f"coco:{tmp_path}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annotations"), "no list 'annotations'"),
        (lambda c: c["images"][1].pop("file_name"), r"images\[1\]: no field 'file_name'"),
        (lambda c: c["images"][1].update(id="2"), r"images\[1\]: id '2' is no whole number"),
        (lambda c: c["images"][1].update(id=2**40), r"images\[1\]: id 1099511627776 is no whole number"),
        (lambda c: c["images"][1].update(height=-3), r"image 2 \(b\.png\): height -3"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotations\[0\] \(id 1\): no field 'bbox'"),
        (
            lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
            r"annotations\[0\] \(id 1\): bbox \[1, 2, 3\]",
        ),
        (lambda c: c["annotations"][0].update(category_id=9), r"annotations\[0\] \(id 1\): category_id 9"),
        (
            lambda c: c["images"][1].update(file_name="gone.png"),
            r"1 of its 2 images .* gone\.png \(image id 2\)",
        ),
        (lambda c: c["images"][0].update(width=31), r"a\.png: the image is 30x20 .* says 31x20"),
    ],
)
def test_fields_that_make_no_sense(tmp_path, change, message):
    content = _coco(tmp_path, [BOX])
    change(content)
    _rewrite(tmp_path, content)
    with pytest.raises(UserError, match=message):  # noqa: PT012 - the last one shows when pixels are read
        source, _ = open_detection(f"coco:{tmp_path}")
        source.image(0)


def test_malformed_json_names_its_line(tmp_path):
    _coco(tmp_path, [BOX])
    path = tmp_path / "data.json"
    path.write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(UserError, match=r"data\.json, line 2, column \d+: malformed json"):
        open_detection(f"coco:{tmp_path}")
    path.write_bytes(b"\xff\xfe\xfa{")
    with pytest.raises(UserError, match=r"data\.json"):
        open_detection(f"coco:{tmp_path}")
    path.write_text("[1, 2]")
    with pytest.raises(UserError, match=r"data\.json: no list 'images'"):
        open_detection(f"coco:{tmp_path}")


def test_images_that_are_nowhere(tmp_path):
    _coco(tmp_path, [BOX])
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).unlink()
    with pytest.raises(UserError, match=r"its images are in none of .*images.*a\.png \(image id 1\)"):
        open_detection(f"coco:{tmp_path}")


def test_truncated_image_is_named_when_it_is_read(tmp_path):
    _coco(tmp_path, [BOX])
    path = tmp_path / "images/b.png"
    path.write_bytes(path.read_bytes()[:-30])
    source, _ = open_detection(f"coco:{tmp_path}")
    assert source.image(0).shape == (20, 30, 3)
    with pytest.raises(UserError, match=r"images/b\.png: the image cannot be read"):
        source.image(1)


def test_a_class_that_the_run_has_not_seen(tmp_path):
    _coco(tmp_path, [BOX, (2, 1, 4, [1, 1, 5, 5], {})])
    with pytest.raises(UserError, match=r"data\.json: 'cat': no class of this run, which knows 'dog', 'cow'"):
        open_detection(f"coco:{tmp_path}", ("dog", "cow"))
    _coco(tmp_path, [BOX])  # cat is declared, but no object is one
    source, _ = open_detection(f"coco:{tmp_path}", ("cow", "dog"))
    assert source.record(0).labels.tolist() == [1]


def test_several_candidates_for_a_split(tmp_path):
    (tmp_path / "annotations").mkdir()
    for year in (2014, 2017):
        (tmp_path / f"annotations/instances_train{year}.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"train2014, train2017 could all be the train split.*\?train=train2017"
    ):
        open_detection(f"coco:{tmp_path}")
    with pytest.raises(UserError, match=r"no split 'tran2017'.*did you mean train2017"):
        open_detection(f"coco:{tmp_path}?train=tran2017")


def _voc(root, name, *objects, image=True):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if image:
        _save(root / f"JPEGImages/{name}.jpg")
    text = "<annotation><size><width>30</width><height>20</height></size>"
    for label, corners in objects:
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False)
        box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
        text += f"\n<object><name>{label}</name><bndbox>{box}</bndbox></object>"
    (root / f"Annotations/{name}.xml").write_text(text + "</annotation>")


def _lists(root, **splits):
    for split, names in splits.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))


def test_voc_boxes_and_images_without_annotations(tmp_path, caplog):
    cat = ("cat", (0, 1, 30, 25))
    _voc(tmp_path, "a", ("dog", (1, 1, 5, 5)), cat, ("dog", (9, 9, 8, 12)), ("dog", (31, 1, 40, 9)))
    _save(tmp_path / "JPEGImages/bare.jpg")
    _voc(tmp_path, "v")
    _lists(tmp_path, train=["a", "bare"], val=["v"])
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_detection(f"voc:{tmp_path}")
    np.testing.assert_array_equal(train.record(0).boxes, [[0, 0, 5, 5], [0, 0, 30, 20]])
    assert train.record(1).boxes.shape == (0, 4)
    assert (train.record(1).height, train.record(1).width) == (20, 30)
    assert len(val) == 1
    reports = [entry.getMessage() for entry in caplog.records if "split train" in entry.getMessage()]
    assert len(reports) == 1
    text = reports[0]
    assert "1 images without an annotation file, kept as negatives (first: bare.jpg)" in text
    assert "1 boxes of zero or negative size, dropped (first: a.xml, object 3 (dog)" in text
    assert "1 boxes outside their image, dropped (first: a.xml, object 4 (dog)" in text
    assert "1 boxes reaching over their image's border, clipped (first: a.xml, object 2 (cat)" in text


def test_voc_files_that_make_no_sense(tmp_path):
    _voc(tmp_path, "a", ("dog", (1, 1, 5, 5)))
    _lists(tmp_path, train=["a"], val=["a"])
    path = tmp_path / "Annotations/a.xml"
    whole = path.read_text()
    path.write_text(whole[:-20])
    with pytest.raises(UserError, match=r"a\.xml, line 2, column \d+: malformed XML"):
        open_detection(f"voc:{tmp_path}")
    path.write_text(whole.replace("<ymax>5</ymax>", ""))
    with pytest.raises(UserError, match=r"a\.xml: object 1 \(dog\): bndbox needs the numbers"):
        open_detection(f"voc:{tmp_path}")
    path.write_text(whole.replace("dog", " "))
    with pytest.raises(UserError, match=r"a\.xml: object 1 has no name"):
        open_detection(f"voc:{tmp_path}")
    path.write_text(whole.replace("<width>30", "<width>40"))
    with pytest.raises(UserError, match=r"a\.jpg: the image is 30x20 .* says 40x20"):
        open_detection(f"voc:{tmp_path}")[0].image(0)
    path.write_text(whole)
    with pytest.raises(UserError, match="split train: 'dog': no class of this run"):
        open_detection(f"voc:{tmp_path}", ("cat",))
    _lists(tmp_path, train=["a", "b", "a"])
    with pytest.raises(UserError, match=r"train\.txt: a is listed twice"):
        open_detection(f"voc:{tmp_path}")
    _lists(tmp_path, train=["a", "gone"])
    with pytest.raises(
        UserError, match=r"split train: 1 of its 2 images are not in .*JPEGImages; first: gone"
    ):
        open_detection(f"voc:{tmp_path}")
    _save(tmp_path / "JPEGImages/a.png")
    with pytest.raises(UserError, match=r"a\.png: a\.jpg has the same name"):
        open_detection(f"voc:{tmp_path}")


def test_a_voc_annotation_of_an_unknown_image(tmp_path):
    _voc(tmp_path, "a", ("dog", (1, 1, 5, 5)))
    _voc(tmp_path, "lost", ("dog", (1, 1, 5, 5)), image=False)
    with pytest.raises(UserError, match=r"1 of its 2 images are not in .*; first: lost"):
        open_detection(f"voc:{tmp_path}")


def test_folder_above_the_voc_folder(tmp_path):
    _voc(tmp_path / "VOC2012", "a")
    with pytest.raises(UserError, match=r"no folder Annotations.*did you mean .*VOC2012"):
        open_detection(f"voc:{tmp_path}")


@pytest.mark.parametrize(
    ("open_data", "spec", "message"),
    [
        (open_detection, "coco:{}/dta", r"there is no .*dta; did you mean data\?"),
        (open_detection, "voc:{}/data/file", "file is not a folder"),
        (open_detection, "{}/data", "detection takes coco:DIR, voc:DIR, synthetic"),
        (open_detection, "cocoo:{}/data", r"did you mean coco\?"),
        (open_detection, "coco:", "write it as one of coco:DIR"),
        (open_detection, "digits", "detection takes"),
        (open_detection, "synthetic:{}/data", "write it as one of"),
        (open_detection, "voc:{}/data?holdut=0.1", r"no option 'holdut'.*did you mean holdout\?"),
        (open_detection, "voc:{}/data?holdout=2", "holdout=2: expected a fraction"),
        (open_detection, "synthetic?length=many", "length=many: expected a whole number"),
        (open_detection, "coco:{}/data", "no COCO annotations: looked for"),
        (open_detection, "voc:{}/data", "no folder Annotations"),
        (open_classification, "folder:{}/empty", "no class folders"),
        (open_classification, "folder:{}/data", "no images in its class folders sub"),
        (open_classification, "idx:{}/data", "no IDX file train-images"),
        (open_segmentation, "coco:{}/data", "no COCO annotations: looked for"),
        (open_segmentation, "voc:{}/data?classes=2", "voc has no option 'classes'"),
        (open_segmentation, "folder:{}/data", "segmentation takes coco:DIR, voc:DIR, labels:DIR, synthetic"),
        (open_segmentation, "labels:{}/data", "no image and label folders"),
        (open_segmentation, "labels:{}/data?classes=-1", "classes=-1: expected a whole number"),
    ],
)
def test_a_bad_specification_or_place_is_named(tmp_path, open_data, spec, message):
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "data/file").write_text("x")
    with pytest.raises(UserError, match=message):
        open_data(spec.format(tmp_path))


@pytest.mark.parametrize(
    ("open_data", "spec"),
    [(open_detection, "synthetic"), (open_segmentation, "synthetic"), (open_classification, "digits")],
)
def test_a_run_with_other_classes_than_the_built_in_data(open_data, spec):
    with pytest.raises(UserError, match="this run was trained on cat, dog"):
        open_data(spec, ("cat", "dog"))


def test_class_folder_that_the_run_has_not(tmp_path):
    _save(tmp_path / "train/cat/a.png")
    _save(tmp_path / "val/dog/a.png")
    with pytest.raises(UserError, match=r"val: 'dog': no class of this run, which knows 'cat'"):
        open_classification(f"folder:{tmp_path}", ("cat",))


def _idx(root, name, dims, values):
    head = bytes([0, 0, 8, len(dims)]) + b"".join(n.to_bytes(4, "big") for n in dims)
    (root / name).write_bytes(head + bytes(values))


def test_idx_files_that_make_no_sense(tmp_path):
    for split in ("train", "t10k"):
        _idx(tmp_path, f"{split}-images-idx3-ubyte", (2, 1, 3), range(6))
        _idx(tmp_path, f"{split}-labels-idx1-ubyte", (2,), (0, 1))
    train, _ = open_classification(f"idx:{tmp_path}")
    assert len(train) == 2
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte: '1': no class of this run"):
        open_classification(f"idx:{tmp_path}", ("0",))
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    for dims, values, message in (
        ((2,), (0,), "has 1 values where 2 = 2 are announced"),
        ((3,), (0, 1, 2), r"has shape \(3,\), but t10k-images-idx3-ubyte holds 2 images"),
    ):
        _idx(tmp_path, labels.name, dims, values)
        with pytest.raises(UserError, match=f"t10k-labels-idx1-ubyte: {message}"):
            open_classification(f"idx:{tmp_path}")
    labels.write_bytes(gzip.compress(bytes(1000))[:-9])
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte: cannot be decompressed"):
        open_classification(f"idx:{tmp_path}")
    labels.write_bytes(b"\0\0\x0d\1")
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte: holds IDX type 13"):
        open_classification(f"idx:{tmp_path}")
    labels.write_text("hello")
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte: not an IDX file"):
        open_classification(f"idx:{tmp_path}")
