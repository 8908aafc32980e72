"""Class folders, IDX files and label-map folders, and the specs that open them."""

import gzip
import logging
import pickle
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.paths import SHARED
from vision_jax.data.files.splits import hold_out
from vision_jax.data.formats.idx import read_idx
from vision_jax.data.open import open_classification, open_detection, open_segmentation

DATA = SHARED / "data"
needs_mnist = pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"MNIST is not at {DATA}/mnist")
needs_camvid = pytest.mark.skipif(not (DATA / "camvid").is_dir(), reason=f"CamVid is not at {DATA}/camvid")


def _save(path, value=0, size=(4, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def _labels(source):
    records = [source.record(index) for index in range(len(source))]
    assert [record.id for record in records] == list(range(len(source)))
    return {record.name: source.classes[record.label] for record in records}


def test_a_folder_a_class_labels_its_images(tmp_path):
    _save(tmp_path / "train/dog/1.png", 11)
    _save(tmp_path / "train/ant/deeper/2.png", 22)
    _save(tmp_path / "val/dog/3.jpg", 33)
    (tmp_path / "val/cat").mkdir()
    (tmp_path / "train/dog/notes.txt").write_text("not an image")
    train, val = open_classification(f"folder:{tmp_path}")
    assert train.classes == val.classes == ("ant", "cat", "dog")
    assert _labels(train) == {"ant/deeper/2.png": "ant", "dog/1.png": "dog"}
    assert _labels(val) == {"dog/3.jpg": "dog"}
    assert [int(train.image(i)[0, 0, 0]) for i in range(2)] == [22, 11]
    train, val = open_classification(f"folder:{tmp_path}", ("dog", "eel", "ant"))
    assert _labels(val) == {"dog/3.jpg": "dog"}
    assert [train.record(i).label for i in range(2)] == [2, 0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(train)).image(0), train.image(0))


def test_class_folders_without_splits(tmp_path, caplog):
    for number in range(10):
        _save(tmp_path / f"cat/{number}.png", number)
        _save(tmp_path / f"train/{number}.png", number)  # trains, to be told from cats
    train, val = open_classification(f"folder:{tmp_path}")
    assert train.classes == ("cat", "train")
    assert (len(train), len(val)) == (16, 4)
    assert sum(name.startswith("cat/") for name in _labels(val)) == 2
    assert not _labels(train).keys() & _labels(val).keys()
    again = open_classification(f"folder:{tmp_path}")
    assert [_labels(source) for source in again] == [_labels(train), _labels(val)]
    with caplog.at_level(logging.WARNING, "vision_jax"):
        whole, same = open_classification(f"folder:{tmp_path}?holdout=0")
    assert whole is same
    assert len(whole) == 20
    assert "one split only" in caplog.text


def test_what_is_held_out_is_the_same_on_every_machine():
    # sorted by `printf a | sha256sum` and so on, d, j and f come first
    assert hold_out(list("abcdefghij"), 0.3) == ([0, 1, 2, 4, 6, 7, 8], [3, 5, 9])
    assert hold_out(["x"], 0.5) == ([0], [])
    assert hold_out([], 0.5) == ([], [])


def _idx(values):
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.tobytes()


def _write_idx(folder, prefix, images, labels, pack=lambda content: content):
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(pack(_idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(_idx(labels)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)), st.booleans())
def test_an_idx_array_is_read_as_written(tmp_path, values, compressed):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(_idx(values), 1) if compressed else _idx(values))
    np.testing.assert_array_equal(read_idx(path), values)


def test_idx_files_open_as_a_classification_set(tmp_path):
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    _write_idx(tmp_path, "train", images, np.array([2, 0, 4], np.uint8))
    _write_idx(tmp_path, "t10k", images[:1], np.array([1], np.uint8))
    train, val = open_classification(f"idx:{tmp_path}")
    assert train.classes == val.classes == ("0", "1", "2", "3", "4")
    assert [train.record(i).label for i in range(3)] == [2, 0, 4]
    assert val.record(0).label == 1
    np.testing.assert_array_equal(train.image(1), np.stack([images[1]] * 3, axis=-1))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(train)).image(2), train.image(2))
    train, _ = open_classification(f"idx:{tmp_path}", ("4", "3", "2", "1", "0"))
    assert [train.record(i).label for i in range(3)] == [2, 4, 0]
    few, val = open_classification(f"idx:{tmp_path}?length=2")
    assert (len(few), len(val), few.classes) == (2, 1, val.classes)
    assert [few.record(i).label for i in range(2)] == [2, 0]
    (tmp_path / "classes.txt").write_text("shirt\nshoe\nbag\nhat\nsock\n")
    train, _ = open_classification(f"idx:{tmp_path}")
    assert train.classes[train.record(2).label] == "sock"


@needs_mnist
def test_mnist_opens_whole():
    train, val = open_classification(f"idx:{DATA}/mnist")
    assert (len(train), len(val)) == (8000, 1000)
    assert train.classes == tuple("0123456789")
    assert train.image(0).shape == (28, 28, 3)
    counts = np.bincount([train.record(i).label for i in range(8000)])
    assert counts.min() > 600
    ones, noughts = (
        np.mean([train.image(i).mean() for i in range(500) if train.record(i).label == k]) for k in (1, 0)
    )
    assert ones < 0.6 * noughts  # a one takes little ink


def _map(path, values, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tolist())
    image.save(path)


def _camvid_like(root, train, val=None, palette=False):
    for split, values in (("train", train), ("val", train if val is None else val)):
        _save(root / f"{split}/x.jpg", size=np.shape(values))
        _map(root / f"{split}annot/x.png", values, palette)


@pytest.mark.parametrize("palette", [False, True])
def test_label_maps_are_read_with_void_pixels(tmp_path, palette):
    _camvid_like(tmp_path, [[0, 1, 2], [255, 1, 0]], [[3, 3, 255]], palette)
    train, val = open_segmentation(f"labels:{tmp_path}")
    assert train.classes == val.classes == ("class0", "class1", "class2", "class3")
    np.testing.assert_array_equal(train.labels(0), [[0, 1, 2], [-1, 1, 0]])
    np.testing.assert_array_equal(val.labels(0), [[3, 3, -1]])
    assert train.labels(0).dtype == np.int32
    assert (train.name(0), train.image(0).shape) == ("x.jpg", (2, 3, 3))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(train)).labels(0), train.labels(0))


@pytest.mark.parametrize(
    ("listing", "options", "classes", "expected"),
    [
        ("a\nb\nc\nd\n", "", "abcd", [0, 1, 2, 3, -1]),
        ("a\nb\nc\nvoid\n", "", "abc", [0, 1, 2, -1, -1]),
        ("(Void)\nb\nc\nd\n\n", "", "bcd", [-1, 0, 1, 2, -1]),
        ("a\nb\nc\n", "?void=3", "abc", [0, 1, 2, -1, -1]),
        ("a\nb\nc\nd\n", "?void=1", "acd", [0, -1, 1, 2, -1]),
        (None, "", "0123", [0, 1, 2, 3, -1]),
        (None, "?classes=3", "012", [0, 1, 2, -1, -1]),
        (None, "?void=3", "012", [0, 1, 2, -1, -1]),
        (None, "?void=0", "012", [-1, 0, 1, 2, -1]),
        (None, "?void=0&classes=2", "01", [-1, 0, 1, -1, -1]),
    ],
)
def test_indices_of_a_label_map_become_classes(tmp_path, listing, options, classes, expected):
    _camvid_like(tmp_path, [[0, 1, 2, 3, 255]])
    if listing:
        (tmp_path / "classes.txt").write_text(listing)
    train, _ = open_segmentation(f"labels:{tmp_path}{options}")
    assert train.classes == tuple(name if listing else f"class{name}" for name in classes)
    np.testing.assert_array_equal(train.labels(0), [expected])


def test_classes_of_a_run_and_label_maps(tmp_path):
    _camvid_like(tmp_path, [[0, 1, 2, 255]])
    train, _ = open_segmentation(f"labels:{tmp_path}", ("road", "sky"))  # no names: by position
    assert train.classes == ("road", "sky")
    np.testing.assert_array_equal(train.labels(0), [[0, 1, -1, -1]])
    (tmp_path / "classes.txt").write_text("sky\nvoid\nroad\n")
    train, _ = open_segmentation(f"labels:{tmp_path}", ("road", "tree", "sky"))  # by name
    assert train.classes == ("road", "tree", "sky")
    np.testing.assert_array_equal(train.labels(0), [[2, -1, 0, -1]])


@pytest.mark.parametrize("labels", ["labels", "masks", "annotations"])
def test_the_usual_layouts_of_label_maps_are_found(tmp_path, labels):
    for split in ("train", "test"):
        _save(tmp_path / f"images/{split}/{split}.jpg")
        _map(tmp_path / f"{labels}/{split}/{split}.png", np.ones((4, 5)))
    train, val = open_segmentation(f"labels:{tmp_path}")
    assert (train.name(0), val.name(0)) == ("train.jpg", "test.jpg")
    np.testing.assert_array_equal(val.labels(0), np.ones((4, 5)))


def test_one_folder_of_label_maps(tmp_path, caplog):
    for number in range(5):
        _save(tmp_path / f"images/{number}.jpg")
        _map(tmp_path / f"labels/{number}.png", np.full((4, 5), number))
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, same = open_segmentation(f"labels:{tmp_path}")
    assert source is same
    assert "one split only" in caplog.text
    train, val = open_segmentation(f"labels:{tmp_path}?holdout=0.2")
    assert (len(train), len(val)) == (4, 1)
    for index in range(4):
        assert (train.labels(index) == int(train.name(index)[0])).all()


def test_a_turned_image_fits_its_label_map(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    for name, size in (("upright", (6, 4)), ("stored", (4, 6))):
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / f"images/{name}.jpg", exif=exif)
        _map(tmp_path / f"labels/{name}.png", np.zeros(size))
    source, _ = open_segmentation(f"labels:{tmp_path}?classes=2")
    for index in range(2):
        assert source.image(index).shape[:2] == source.labels(index).shape


@needs_camvid
@pytest.mark.parametrize("options", ["", "?classes=11", "?void=11"])
def test_camvid_opens_whole(options, caplog):
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_segmentation(f"labels:{DATA}/camvid{options}")
    assert (len(train), len(val), len(train.classes)) == (367, 101, 11)
    assert ("Bicyclist" in caplog.text) == (options == "")
    assert (train.classes[8] == "Car") == (options == "")
    stored = np.asarray(Image.open(sorted((DATA / "camvid/valannot").iterdir())[5])).astype(int)
    assert (stored == 11).any()
    np.testing.assert_array_equal(val.labels(5), np.where(stored == 11, -1, stored))
    assert val.image(5).shape == (180, 240, 3)


def test_data_that_needs_no_files():
    train, val = open_detection("synthetic?length=3&val_length=2&canvas=64&objects=2")
    assert (len(train), len(val)) == (3, 2)
    assert train.image(0).shape == (64, 64, 3)
    assert (train.image(0) != val.image(0)).any()
    other, _ = open_detection("synthetic?length=3&canvas=64&objects=2&seed=1")
    assert (train.image(0) != other.image(0)).any()
    train, _ = open_segmentation("synthetic?length=3&canvas=64")
    assert train.labels(1).shape == (64, 64)
    train, val = open_classification("digits")
    assert (len(train) + len(val), train.classes) == (1797, tuple("0123456789"))
