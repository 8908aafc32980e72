"""VOC folders: 1-based inclusive boxes, difficult objects, classes over all splits, split lists."""

import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.paths import SHARED
from vision_jax.data.open import open_detection

BCCD = SHARED / "data/bccd"
needs_bccd = pytest.mark.skipif(not BCCD.is_dir(), reason=f"the blood cell images are not at {BCCD}")


def _object(name, corners, difficult=0, more=""):
    tags = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>{more}<bndbox>{tags}</bndbox></object>"
    )


def add(root, name, objects=(), size="<size><width>30</width><height>20</height><depth>3</depth></size>"):
    """Writes one image and its annotation."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), len(name), np.uint8)).save(root / f"JPEGImages/{name}.png")
    text = f"<annotation><filename>other.jpg</filename>{size}{''.join(objects)}</annotation>"
    (root / f"Annotations/{name}.xml").write_text(text)


def listing(root, **splits):
    """Writes the split lists."""
    for split, names in splits.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def folder(tmp_path):
    head = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    dogs = [_object("dog", (1, 1, 30, 20), more=head), _object("cat", (3.5, 4, 3.5, 9), 1)]
    add(tmp_path, "a", dogs)
    add(tmp_path, "bb", [_object("zebra", (11, 2, 20, 12))])
    add(tmp_path, "ccc", [_object("ant", (2, 2, 3, 3))])
    add(tmp_path, "unlisted", [_object("whale", (2, 2, 3, 3))])
    listing(tmp_path, train=["a"], val=["bb  1"], test=["ccc"])
    return tmp_path


def test_records_hold_boxes_classes_and_difficult_objects(folder):
    train, val = open_detection(f"voc:{folder}")
    assert train.classes == val.classes == ("ant", "cat", "dog", "zebra")  # of the listed images, sorted
    record = train.record(0)
    assert (record.id, record.name, record.height, record.width) == (0, "a.png", 20, 30)
    np.testing.assert_array_equal(record.boxes, [[0, 0, 30, 20], [2.5, 3, 3.5, 9]])
    np.testing.assert_array_equal(record.labels, [2, 1])
    np.testing.assert_array_equal(record.ignore, [False, True])
    np.testing.assert_array_equal(record.area, [600, 6])
    np.testing.assert_array_equal(val.record(0).boxes, [[10, 1, 20, 12]])
    assert (val.record(0).name, val.image(0)[0, 0, 0]) == ("bb.png", 2)
    copy = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(copy.image(0), train.image(0))


def test_evaluation_on_another_split(folder):
    train, test = open_detection(f"voc:{folder}?val=test")
    assert (train.record(0).name, test.record(0).name) == ("a.png", "ccc.png")


def test_classes_of_a_run_are_matched_by_name(folder):
    train, val = open_detection(f"voc:{folder}", ("zebra", "yak", "dog", "cat"))
    np.testing.assert_array_equal(train.record(0).labels, [2, 3])
    np.testing.assert_array_equal(val.record(0).labels, [0])


def test_without_lists_all_images_are_one_split(tmp_path, caplog):
    for name in "abcde":
        add(tmp_path, name, [_object("x", (1, 1, 9, 9))])
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, same = open_detection(f"voc:{tmp_path}")
    assert source is same
    assert len(source) == 5
    assert "one split only" in caplog.text
    train, val = open_detection(f"voc:{tmp_path}?holdout=0.4")
    names = [[s.record(i).name for i in range(len(s))] for s in (train, val)]
    assert (len(names[0]), len(names[1])) == (3, 2)
    assert sorted(names[0] + names[1]) == [f"{name}.png" for name in "abcde"]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_absent_size_is_read_from_the_image(tmp_path, size):
    add(tmp_path, "a", [_object("x", (1, 1, 9, 9))], size=size)
    source, _ = open_detection(f"voc:{tmp_path}")
    assert (source.record(0).height, source.record(0).width) == (20, 30)


def test_names_with_spaces_and_extensions(tmp_path):
    add(tmp_path, "my photo 1", [_object("x", (1, 1, 9, 9))])
    add(tmp_path, "b.c", [_object("x", (1, 1, 9, 9))])
    listing(tmp_path, train=["my photo 1"], val=["b.c.png"])
    train, val = open_detection(f"voc:{tmp_path}")
    assert (train.record(0).name, val.record(0).name) == ("my photo 1.png", "b.c.png")


@needs_bccd
def test_the_blood_cells_open_whole(caplog):
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_detection(f"voc:{BCCD}")
    assert caplog.text == ""
    assert (len(train), len(val), train.classes) == (205, 87, ("Platelets", "RBC", "WBC"))
    record = val.record(0)  # BloodImage_00000: its first object, a WBC, is 260 177 491 376 in the file
    np.testing.assert_array_equal(record.boxes[0], [259, 176, 491, 376])
    assert record.labels[0] == 2
    assert val.image(0).shape == (record.height, record.width, 3) == (480, 640, 3)
    listed = (BCCD / "ImageSets/Main/train.txt").read_text().split()
    objects = sum((BCCD / f"Annotations/{name}.xml").read_text().count("<object>") for name in listed)
    assert sum(len(train.record(i).boxes) for i in range(205)) == objects
