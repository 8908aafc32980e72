"""VOC object maps: numbers, void borders, and objects and boxes that do not belong together."""

import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.formats.voc.instances import match
from vision_jax.data.open import open_instances
from vision_jax.data.sources import InstanceSource
from vision_jax.types import UserError

HEIGHT, WIDTH = 20, 30


def add(root, name, objects, parts, mode="P", shape=(HEIGHT, WIDTH)):
    """Writes an image, its annotation of (class, *box) and its map of {number: box}, a border void."""
    for folder in ("JPEGImages", "Annotations", "SegmentationObject", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 9, np.uint8)).save(root / f"JPEGImages/{name}.png")
    tags = "".join(
        f"<object><name>{kind}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for kind, x1, y1, x2, y2 in objects
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    (root / f"Annotations/{name}.xml").write_text(f"<annotation>{size}{tags}</annotation>")
    stored = np.zeros(shape, np.uint8)
    for number, (x1, y1, x2, y2) in parts.items():
        stored[y1:y2, x1:x2] = 255
        stored[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = number
    picture = Image.fromarray(stored, "L")
    if mode == "P":
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    picture.save(root / f"SegmentationObject/{name}.png")


def listing(root, **splits):
    for split, names in splits.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def folder(tmp_path):
    add(
        tmp_path, "a",
        [("dog", 0, 0, 10, 10), ("cat", 12, 5, 28, 19)],
        {1: (0, 0, 10, 10), 2: (12, 5, 28, 19)},
    )  # fmt: skip
    add(tmp_path, "b", [("cat", 3, 3, 9, 9)], {1: (3, 3, 9, 9)}, mode="L")
    add(tmp_path, "unlisted", [("whale", 2, 2, 9, 9)], {})
    listing(tmp_path, train=["a"], val=["b"])
    return tmp_path


def test_masks_of_objects_are_read_with_their_classes(folder, caplog):
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_instances(f"voc:{folder}")
    assert caplog.text == ""
    assert isinstance(train, InstanceSource)
    assert train.classes == val.classes == ("cat", "dog")
    expected = np.zeros((2, HEIGHT, WIDTH), bool)
    expected[0, 1:9, 1:9] = expected[1, 6:18, 13:27] = True  # void is no object's
    np.testing.assert_array_equal(train.masks(0), expected)
    record = train.record(0)
    np.testing.assert_array_equal(record.boxes, [[0, 0, 10, 10], [12, 5, 28, 19]])
    np.testing.assert_array_equal(record.labels, [1, 0])
    np.testing.assert_array_equal(record.area, [64, 168])  # of the masks
    assert val.masks(0).sum() == 16
    copy = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(copy.masks(0), expected)
    _, renamed = open_instances(f"voc:{folder}", ("dog", "cow", "cat"))
    np.testing.assert_array_equal(renamed.record(0).labels, [2])


def test_numbers_in_another_order_are_matched_by_iou(folder, caplog):
    add(
        folder, "a",
        [("dog", 0, 0, 10, 10), ("cat", 12, 5, 28, 19), ("dog", 20, 0, 30, 4)],
        {2: (0, 0, 10, 10), 3: (12, 5, 28, 19), 7: (0, 12, 8, 20)},
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, _ = open_instances(f"voc:{folder}")
    masks = train.masks(0)
    assert masks[0, 1:9, 1:9].all()
    assert masks[1, 6:18, 13:27].all()
    np.testing.assert_array_equal(masks.sum((1, 2)), [64, 168, 0])
    np.testing.assert_array_equal(train.record(0).area, [64, 168, 40])  # without a mask: the box's
    assert "2 objects numbered otherwise than in the annotation" in caplog.text
    assert "first: a.png, object 2 is box 1" in caplog.text
    assert "1 boxes without an object in the map, kept without a mask (first: a.png, box 3)" in caplog.text
    assert "1 objects of the map without a box, left out (first: a.png, object 7)" in caplog.text


def test_boxes_that_are_nearly_one_go_by_their_numbers(folder, caplog):
    add(folder, "a", [("dog", 0, 0, 20, 10), ("cat", 0, 0, 20, 11)], {})
    stored = np.zeros((HEIGHT, WIDTH), np.uint8)
    stored[:11, :20] = 1  # tight around it is the second box
    stored[1:10, :19] = 2  # nearer to the first
    Image.fromarray(stored, "L").save(folder / "SegmentationObject/a.png")
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, _ = open_instances(f"voc:{folder}")
    assert caplog.text == ""
    np.testing.assert_array_equal(train.masks(0)[0], stored == 1)
    np.testing.assert_array_equal(train.masks(0)[1], stored == 2)


def test_numbers_count_for_a_quarter():
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10]], np.float32)  # their IoU is 60 / 140
    numbers = np.array([1, 2], np.int32)
    values = np.array([1, 2])
    np.testing.assert_array_equal(match(boxes, values, boxes, numbers), [1, 2])
    np.testing.assert_array_equal(match(boxes[::-1], values, boxes, numbers), [2, 1])
    close = boxes - np.array([[0, 0, 0, 0], [3, 0, 3, 0]], np.float32)  # by 90 / 110
    np.testing.assert_array_equal(match(close[::-1], values, close, numbers), [1, 2])
    np.testing.assert_array_equal(match(boxes[:1] + 20, values[:1], boxes, numbers), [-1, -1])


def test_a_dropped_box_leaves_a_gap_in_the_numbers(folder, caplog):
    add(
        folder, "a",
        [("dog", 5, 5, 5, 5), ("cat", 12, 5, 28, 19)],
        {2: (12, 5, 28, 19)},
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, _ = open_instances(f"voc:{folder}")
    assert train.masks(0).sum() == 168
    assert "otherwise" not in caplog.text


def test_without_lists_the_images_with_maps_are_one_split(folder, caplog):
    for path in (folder / "ImageSets/Segmentation").iterdir():
        path.unlink()
    (folder / "SegmentationObject/unlisted.png").unlink()
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, same = open_instances(f"voc:{folder}")
    assert source is same
    assert [source.record(i).name for i in range(len(source))] == ["a.png", "b.png"]
    np.testing.assert_array_equal(source.record(1).area, [16])
    assert source.masks(1).sum() == 16
    assert "one split only" in caplog.text


def test_what_is_wrong_is_named(folder):
    listing(folder, val=["b", "unlisted"])
    (folder / "SegmentationObject/unlisted.png").unlink()
    with pytest.raises(UserError, match=r"split val: 1 of its 2 images.*first: unlisted.png"):
        open_instances(f"voc:{folder}")
    listing(folder, val=["b"])
    add(folder, "b", [("cat", 3, 3, 9, 9)], {1: (3, 3, 9, 9)}, shape=(WIDTH, HEIGHT))
    with pytest.raises(UserError, match=r"b.png: the object map is 20x30 .*its image is 30x20"):
        open_instances(f"voc:{folder}")
    for path in (folder / "SegmentationObject").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no object maps"):
        open_instances(f"voc:{folder}")
    (folder / "SegmentationObject").rmdir()
    with pytest.raises(UserError, match="no folder SegmentationObject"):
        open_instances(f"voc:{folder}")


def test_boxes_of_bytes_are_matched_as_others_are():
    boxes = np.array([[0, 0, 200, 200], [100, 100, 250, 250], [9, 9, 5, 5]])
    values, numbers = np.array([2, 1]), np.array([1, 2, 3])
    for dtype in (np.uint8, np.int32, np.float16, np.float32):
        narrow = boxes.astype(dtype)
        np.testing.assert_array_equal(match(narrow[1::-1], values, narrow, numbers), [1, 2, -1])
