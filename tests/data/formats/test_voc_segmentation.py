"""VOC label maps: what numbers and colors mean, void, lists, and files that do not belong together."""

import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.annotations.palette import PALETTE
from vision_jax.data.formats.voc.segmentation import CLASSES
from vision_jax.data.open import open_instances, open_segmentation
from vision_jax.data.sources import SegmentationSource
from vision_jax.types import UserError

# The colors in which the VOC development kit shows its 21 classes, and void.
KIT = [
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128),
    (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128),
    (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
]  # fmt: skip
VOID = (224, 224, 192)

STORED = np.array([[0, 255, 255, 255], [0, 255, 15, 255], [20, 255, 255, 255]], np.uint8)
LABELS = np.array([[0, -1, -1, -1], [0, -1, 15, -1], [20, -1, -1, -1]])


def picture(stored, kind):
    """A label map as a palette image, as gray, or in the palette's colors."""
    image = Image.fromarray(np.asarray(stored, np.uint8))
    if kind == "gray":
        return image
    image.putpalette([value for color in [*KIT, *[VOID] * 235] for value in color])
    return image if kind == "palette" else image.convert("RGB")


def add(root, name, stored, kind="palette", size=None, maps="SegmentationClass"):
    for folder in ("JPEGImages", maps, "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*(size or np.shape(stored)), 3), 7, np.uint8)).save(
        root / f"JPEGImages/{name}.jpg"
    )
    picture(stored, kind).save(root / f"{maps}/{name}.png")


def listing(root, **splits):
    for split, names in splits.items():
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def folder(tmp_path):
    add(tmp_path, "a", STORED)
    add(tmp_path, "b", STORED.T, "gray")
    add(tmp_path, "c", np.full((2, 2), 3))
    listing(tmp_path, train=["a", "c"], val=["b"])
    return tmp_path


def test_the_colors_are_those_of_the_kit():
    assert PALETTE.dtype == np.uint8
    np.testing.assert_array_equal(PALETTE[:21], KIT)
    np.testing.assert_array_equal(PALETTE[255], VOID)
    assert len({tuple(color) for color in PALETTE.tolist()}) == 256


def test_label_maps_of_voc_are_read_with_void_pixels(folder, caplog):
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_segmentation(f"voc:{folder}")
    assert caplog.text == ""
    assert isinstance(train, SegmentationSource)
    assert train.classes == val.classes == CLASSES
    assert (len(CLASSES), CLASSES[0], CLASSES[15], CLASSES[20]) == (21, "background", "person", "tvmonitor")
    assert list(CLASSES[1:]) == sorted(CLASSES[1:])
    assert [train.name(i) for i in range(len(train))] == ["a.jpg", "c.jpg"]
    assert train.labels(0).dtype == np.int32
    np.testing.assert_array_equal(train.labels(0), LABELS)
    np.testing.assert_array_equal(val.labels(0), LABELS.T)
    assert train.image(0).shape == (3, 4, 3)
    copy = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(copy.labels(0), LABELS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_maps_in_exactly_vocs_colors_are_read_by_them(folder, mode):
    picture(STORED, "colors").convert(mode).save(folder / "SegmentationClass/a.png")
    np.testing.assert_array_equal(open_segmentation(f"voc:{folder}")[0].labels(0), LABELS)
    pixels = PALETTE[np.arange(256).reshape(16, 16)]
    add(folder, "a", np.zeros((16, 16)))
    Image.fromarray(pixels).save(folder / "SegmentationClass/a.png")
    (folder / "classes.txt").write_text("".join(f"c{number}\n" for number in range(255)))
    labels = open_segmentation(f"voc:{folder}")[0].labels(0)
    np.testing.assert_array_equal(labels.ravel(), [*range(255), -1])


def test_maps_in_other_colors_are_refused(folder):
    pixels = np.array(picture(STORED, "colors"))
    pixels[1, 2] = (192, 128, 127)
    Image.fromarray(pixels).save(folder / "SegmentationClass/a.png")
    with pytest.raises(
        UserError, match=r"a\.png: .*stored as colors \(RGB\), and \(192, 128, 127\) at row 1,"
    ):
        open_segmentation(f"voc:{folder}")[0].labels(0)


def test_object_maps_in_vocs_colors_are_read_by_them(folder):
    (folder / "Annotations").mkdir()
    tags = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in {"xmin": 3, "ymin": 2, "xmax": 3, "ymax": 2}.items()
    )
    for name in "abc":
        thing = f"<object><name>cat</name><bndbox>{tags}</bndbox></object>" if name == "a" else ""
        (folder / f"Annotations/{name}.xml").write_text(f"<annotation>{thing}</annotation>")
        add(folder, name, np.zeros((3, 4)), maps="SegmentationObject")
    add(folder, "a", np.where(STORED == 15, 1, np.where(STORED == 20, 0, STORED)), "colors",
        maps="SegmentationObject")  # fmt: skip
    train, _ = open_instances(f"voc:{folder}")
    np.testing.assert_array_equal(train.masks(0), [STORED == 15])


def test_classes_of_a_run_and_of_a_file(folder):
    backwards = CLASSES[::-1]
    train, _ = open_segmentation(f"voc:{folder}", backwards)
    assert train.classes == backwards
    np.testing.assert_array_equal(train.labels(0), np.where(LABELS < 0, -1, 20 - LABELS))
    with pytest.raises(UserError, match=r"'tvmonitor': no class of this run, which knows 'background'"):
        open_segmentation(f"voc:{folder}", CLASSES[:20])
    (folder / "classes.txt").write_text("ground\nsky\nvoid\nsea\n")
    train, _ = open_segmentation(f"voc:{folder}")
    assert train.classes == ("ground", "sky", "sea")
    np.testing.assert_array_equal(train.labels(1), np.full((2, 2), 2))
    train, _ = open_segmentation(f"voc:{folder}", ("sea", "sky", "ground"))
    np.testing.assert_array_equal(train.labels(1), np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"classes\.txt: 'sea': no class of this run"):
        open_segmentation(f"voc:{folder}", ("ground", "sky"))


def test_splits_without_annotation_files(folder, caplog):
    listing(folder, trainval=["a", "b", "c"], odd=["c"])
    train, val = open_segmentation(f"voc:{folder}?train=trainval&val=odd")
    assert (len(train), len(val), val.name(0)) == (3, 1, "c.jpg")
    for path in (folder / "ImageSets/Segmentation").iterdir():
        path.unlink()
    Image.new("RGB", (4, 3)).save(folder / "JPEGImages/unlabelled.jpg")
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, same = open_segmentation(f"voc:{folder}")
    assert source is same
    assert [source.name(i) for i in range(len(source))] == ["a.jpg", "b.jpg", "c.jpg"]
    assert "one split only" in caplog.text
    train, val = open_segmentation(f"voc:{folder}?holdout=0.3")
    assert sorted(s.name(i) for s in (train, val) for i in range(len(s))) == ["a.jpg", "b.jpg", "c.jpg"]
    assert (len(train), len(val)) == (2, 1)


def test_what_is_wrong_is_named(folder):
    maps = folder / "SegmentationClass"

    def refused(words, read=lambda source: None):
        with pytest.raises(UserError, match=words):
            read(open_segmentation(f"voc:{folder}")[0])

    add(folder, "a", np.where(STORED == 20, 33, STORED), "gray")
    refused(
        r"a\.png: holds the indices \[33\], but the classes are 0 to 20 and void is \[255\]: name the "
        r"classes in .*/classes\.txt",
        lambda source: source.labels(0),
    )
    add(folder, "a", STORED, size=(4, 3))
    refused(
        r"a\.jpg: the image is 3x4 \(width x height\), but its label map .*SegmentationClass/a\.png says 4x3",
        lambda source: source.image(0),
    )
    (maps / "a.png").write_bytes((maps / "a.png").read_bytes()[:-40])
    refused(r"a\.png: begins as a PNG file but is damaged", lambda source: source.labels(0))
    listing(folder, train=["a", "gone"])
    refused(r"split train: 1 of its 2 images are not in .*JPEGImages; first: gone")
    listing(folder, train=["a", "c"])
    (maps / "c.png").unlink()
    refused(r"split train: 1 of its 2 images have no label map in .*SegmentationClass; first: c\.png")
    for path in maps.iterdir():
        path.unlink()
    refused(r"SegmentationClass: there are no label maps \(\.png\)")
    maps.rmdir()
    refused("no folder SegmentationClass: this VOC data set has no label maps")


@pytest.mark.parametrize(
    ("open_data", "maps"), [(open_segmentation, "SegmentationClass"), (open_instances, "SegmentationObject")]
)
def test_folder_above_the_voc_folder(tmp_path, open_data, maps):
    add(tmp_path / "VOC2012", "a", STORED, maps=maps)
    with pytest.raises(UserError, match=rf"no folder {maps}: .*did you mean .*VOC2012\?"):
        open_data(f"voc:{tmp_path}")
