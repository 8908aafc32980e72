"""Fields of COCO files as other programs write them: read as they are meant, or named."""

import json

import numpy as np
import pytest

from vision_jax.data.open import open_classification, open_detection, open_instances, open_segmentation
from vision_jax.types import UserError


@pytest.mark.parametrize(
    ("value", "ignored"),
    [
        (0, 0),
        (1, 1),
        (False, 0),
        (True, 1),
        ("0", 0),
        ("1", 1),
        ("false", 0),
        ("True", 1),
        (1.0, 1),
        (None, 0),
    ],
)
@pytest.mark.parametrize("field", ["iscrowd", "ignore"])
def test_flags_in_every_spelling(folders, field, value, ignored):
    source, _ = open_detection(folders.coco(lambda c: c["annotations"][0].update({field: value})))
    np.testing.assert_array_equal(source.record(0).ignore, [ignored, False])


@pytest.mark.parametrize("field", ["iscrowd", "ignore"])
@pytest.mark.parametrize("value", ["maybe", 2, -1, [], {}, 0.5])
def test_flags_that_are_none_name_their_annotation(folders, field, value):
    spec = folders.coco(lambda c: c["annotations"][1].update({field: value}))
    with pytest.raises(
        UserError, match=rf"data\.json: annotations\[1\] \(id 11\): {field} .* neither 0 nor 1"
    ):
        open_detection(spec)


@pytest.mark.parametrize("open_split", [open_detection, open_instances, open_segmentation])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][0].update(id="1"), r"categories\[0\]: id '1' is no whole number"),
        (lambda c: c["categories"][1].update(id=None), r"categories\[1\]: id None is no whole number"),
        (lambda c: c["categories"][1].update(id=[4]), r"categories\[1\]: id \[4\] is no whole number"),
        (lambda c: c["categories"][1].update(id=True), r"categories\[1\]: id True is no whole number"),
        (lambda c: c["categories"][1].update(name=None), r"categories\[1\] \(id 4\): name None is no name"),
        (
            lambda c: c["categories"][1].update(name="\ud800"),
            r"\(id 4\): name '.ud800' is no name of a class",
        ),
        (lambda c: c["categories"][1].update(name="  "), r"categories\[1\] \(id 4\): name '  ' is no name"),
        (lambda c: c["categories"][1].update(name={"en": "cat"}), r"\(id 4\): name .* is no name of a class"),
        (lambda c: c["images"][1].update(id=[2]), r"images\[1\]: id \[2\] is no whole number"),
        (lambda c: c["images"][1].update(file_name=None), r"images\[1\] \(id 2\): file_name None is no name"),
        (lambda c: c["images"][1].update(file_name=["b.png"]), r"\(id 2\): file_name \['b.png'\] is no name"),
        (lambda c: c["images"][1].update(width="30"), r"image 2 \(b\.png\): height 20 and width '30'"),
        (lambda c: c["images"][1].update(height=10**12), r"image 2 \(b\.png\): height 1000000000000"),
        (
            lambda c: c["annotations"][1].update(id=[11]),
            r"annotations\[1\] \(id \[11\]\): id \[11\] is no number",
        ),
        (
            lambda c: c["annotations"][1].update(image_id="1"),
            r"\(id 11\): image_id '1' is text: .* as images do",
        ),
        (lambda c: c["annotations"][1].update(image_id=None), r"\(id 11\): image_id None is no whole number"),
        (lambda c: c["annotations"][1].update(category_id="4"), r"\(id 11\): category_id '4' is text"),
        (lambda c: c["annotations"][1].update(category_id=[4]), r"\(id 11\): category_id \[4\] is no whole"),
        (lambda c: c["annotations"][1].update(bbox=[True, 1, 2, 2]), r"\(id 11\): bbox \[True, 1, 2, 2\]"),
        (lambda c: c["annotations"][1].update(bbox=["1", 1, 2, 2]), r"\(id 11\): bbox \['1', 1, 2, 2\]"),
        (lambda c: c["annotations"][1].update(bbox=[1, 1, 10**400, 2]), r"\(id 11\): bbox \[1, 1, 1000"),
        (lambda c: c["annotations"][1].update(area="25"), r"\(id 11\): area '25' is no number of pixels"),
        (lambda c: c.update(categories=[]), r"data\.json: its list 'categories' is empty"),
        (
            lambda c: c["categories"].__setitem__(1, "cat"),
            r"categories\[1\] is 'cat', not an object with fields",
        ),
    ],
)
def test_values_of_other_types_name_entry_and_field(folders, open_split, change, message):
    with pytest.raises(UserError, match=message):
        open_split(folders.coco(change))


def test_whole_numbers_with_a_decimal_point_are_whole(folders):
    def change(content):
        for table in ("images", "annotations", "categories"):
            for entry in content[table]:
                entry.update({k: float(v) for k, v in entry.items() if isinstance(v, int) and k != "iscrowd"})

    source, _ = open_detection(folders.coco(change))
    record = source.record(1)
    assert (record.id, record.height, record.width) == (2, 20, 30)
    np.testing.assert_array_equal(record.boxes, [[0, 0, 30, 20]])
    assert source.category_ids == (1, 4)


@pytest.mark.parametrize(
    "shape",
    [
        {"size": None, "counts": [0, 600]},
        {"size": "20x30", "counts": [0, 600]},
        {"size": [20, 30], "counts": None},
        {"size": [20, 30], "counts": [2**62, 2**62, 2**62, 2**62 + 600]},  # the sum overflows to 600
        {"size": [20, 30], "counts": [10**30]},
        {"size": [20, 30], "counts": "_" * 100_000},
        {"size": [20, 30], "counts": {"0": 600}},
        [[1e300, 0, 5, 0, 5, 5]],
        [[10**400, 0, 5, 0, 5, 5]],
        [[{"x": 1, "y": 2}]],
        5,
        True,
        "polygon",
    ],
)
def test_shapes_that_cannot_be_leave_their_box(folders, said, shape):
    source, _ = open_instances(folders.coco(lambda c: c["annotations"][0].update(segmentation=shape)))
    assert "left out of masks (first: annotation 10 of image 1)" in said()
    np.testing.assert_array_equal(source.record(0).boxes[0], [2, 2, 7, 7])
    np.testing.assert_array_equal(source.masks(0).sum((1, 2)), [0, 6])


def test_a_split_of_crowds_has_nothing_to_learn_and_says_so(folders, said):
    def crowds(content):
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1

    for open_split in (open_detection, open_instances, open_segmentation):
        open_split(folders.coco(crowds))
        assert "all 3 objects of its 2 images are marked to be ignored (iscrowd" in said()
    open_detection(folders.coco(lambda c: c.update(annotations=[])))
    assert "training split: its 2 images have no object" in said()
    open_detection(folders.coco(lambda c: c["annotations"][0].update(iscrowd=1)))
    assert "to be ignored" not in said()


def test_masks_are_refused_where_no_outline_is_known(folders, tmp_path, said):
    def boxes_alone(content):
        for annotation in content["annotations"]:
            annotation["segmentation"] = []

    spec = folders.coco(boxes_alone)
    with pytest.raises(UserError, match=r"training split: none of its 3 objects has an outline"):
        open_instances(spec)
    open_detection(spec)  # is no matter there
    spec = folders.coco(lambda c: c["annotations"][0].pop("segmentation"))
    source, _ = open_instances(spec)
    np.testing.assert_array_equal(source.outlined(0), [False, True])


def test_roboflows_root_category_is_said(folders, said):
    def roboflow(content):
        content["categories"] = [
            {"id": 0, "name": "animals", "supercategory": "none"},
            {"id": 1, "name": "dog", "supercategory": "animals"},
            {"id": 4, "name": "cat", "supercategory": "animals"},
        ]

    train, _ = open_detection(folders.coco(roboflow))
    assert train.classes == ("animals", "dog", "cat")
    assert "supercategory of all others" in (text := said())
    assert "Roboflow adds one, take it out of the file (first: 'animals', id 0)" in text

    def used(content):
        roboflow(content)
        content["annotations"][0]["category_id"] = 0

    open_detection(folders.coco(used))
    assert "Roboflow" not in said()


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (
            [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1]],
            "3 boxes, all that there are, lie within 0..1",
        ),
        (
            [[10, 4, 0.3, 0.4], [2, 2, 0.9, 0.5], [3, 3, 0.1, 0.1]],
            "3 boxes, all that there are, are under a pixel",
        ),
        ([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5], [2, 2, 9, 9]], ""),
    ],
)
def test_boxes_in_another_unit_than_pixels_are_said(folders, said, boxes, words):
    def change(content):
        for annotation, box in zip(content["annotations"], boxes, strict=True):
            annotation["bbox"] = box

    open_detection(folders.coco(change))
    text = said()
    assert words in text
    assert bool(words) == ("all that there are" in text)


def test_classes_that_differ_in_case_or_spaces_are_said(folders, said):
    def three_cats(content):
        content["categories"] = [{"id": i, "name": n} for i, n in ((1, "cat"), (2, "Cat"), (4, "cat "))]

    open_detection(folders.coco(three_cats))
    assert "the classes 'cat', 'Cat', 'cat ' differ in case or spaces alone" in said()
    open_segmentation(folders.coco(three_cats))
    assert "differ in case or spaces" in said()
    folders.voc("a", ("Red  car", (1, 1, 5, 5)), ("red car", (2, 2, 9, 9)))
    open_detection(f"voc:{folders.root}")
    assert "'Red  car', 'red car' differ" in said()


def test_class_folders_that_look_alike_and_a_single_one_are_said(tmp_path, folders, said):
    for name in ("cat", "Cat"):
        folders.image(f"data/{name}/0.png")
        folders.image(f"data/{name}/1.png")
    open_classification(f"folder:{tmp_path}/data")
    assert "the classes 'Cat', 'cat' differ in case or spaces alone" in said()
    folders.image("one/cat/0.png")
    folders.image("one/cat/1.png")
    open_classification(f"folder:{tmp_path}/one")
    assert "there is one class only, 'cat'" in said()


@pytest.mark.parametrize(
    ("given", "really"),
    [
        ("sub\\b.png", "sub/b.png"),
        ("C:\\data\\images\\b.png", "b.png"),
        ("file:///home/me/b.png", "b.png"),
        ("/somewhere/else/b.png", "b.png"),
        ("my%20b.png", "my b.png"),
        ("sub\\my%20b%C3%BC.png", "sub/my bü.png"),
        ("50%.png", "50%.png"),
    ],
)
def test_file_names_of_windows_and_of_the_web(folders, given, really):
    folders.image(f"images/{really}", value=7)
    source, _ = open_detection(folders.coco(lambda c: c["images"][1].update(file_name="b.png")))
    content = json.loads((folders.root / "data.json").read_text())
    content["images"][1]["file_name"] = given
    (folders.root / "data.json").write_text(json.dumps(content))
    folders.image(f"images/{really}", value=7)
    source, _ = open_detection(f"coco:{folders.root}")
    assert source.name(1) == really
    assert source.image(1)[0, 0, 0] == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"version": "5.0", "shapes": [], "imagePath": "a.png"}, "LabelMe's"),
        ({"_via_img_metadata": {}}, "a VIA project"),
        ({"a.png123": {"filename": "a.png", "regions": []}}, "VIA's annotations"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "COCO results"),
        ([{"image": "a.png", "annotations": []}], "CreateML's"),
        ([{"data": {}, "annotations": []}], "Label Studio's"),
        ({"info": {}, "categories": {}, "items": []}, "Datumaro's"),
        ({"images": [], "annotations": [{"caption": "a dog"}], "categories": []}, "captions"),
        ({"images": [], "annotations": [{"segments_info": []}], "categories": []}, "panoptic"),
    ],
)
def test_files_of_other_programs_are_recognized(tmp_path, content, words):
    (tmp_path / "data.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"data\.json: this file is .*{words}"):
        open_detection(f"coco:{tmp_path}")


def test_folders_of_other_programs_are_recognized(folders, tmp_path):
    for number in range(3):
        folders.image(f"me/{number}.png")
        (tmp_path / f"me/{number}.json").write_text(json.dumps({"shapes": [], "imagePath": f"{number}.png"}))
    with pytest.raises(UserError, match=r"0\.json, the first of 3 json files, is LabelMe's"):
        open_detection(f"coco:{tmp_path}/me")
    folders.image("yolo/images/train/a.png")
    (tmp_path / "yolo/data.yaml").write_text("names: [dog]")
    for kind in ("coco", "voc", "labels"):
        with pytest.raises(UserError, match="it looks like YOLO's format"):
            (open_segmentation if kind == "labels" else open_detection)(f"{kind}:{tmp_path}/yolo")
