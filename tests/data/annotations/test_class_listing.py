"""Files that name classes and their colors: CVAT's labelmap.txt, CamVid's label_colors.txt."""

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.open import open_segmentation
from vision_jax.types import UserError

MAP = np.array([[0, 1, 2], [2, 2, 1]])
COLORS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
LABELMAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncell:250,50,83::\nnucleus:51,221,255::\n"
LABEL_COLORS = "0 0 0 background\n250 50 83\tcell\n51 221 255 nucleus\n"


def _palette(path, values, palette):
    image = Image.fromarray(values.astype(np.uint8), "P")
    image.putpalette(palette.ravel().tolist())
    image.save(path)


@pytest.mark.parametrize("kind", ["labels", "voc"])
@pytest.mark.parametrize(("name", "text"), [("labelmap.txt", LABELMAP), ("label_colors.txt", LABEL_COLORS)])
@pytest.mark.parametrize("stored", ["rgb", "palette", "indices"])
def test_colors_become_the_listed_classes(folders, kind, name, text, stored):
    """However the map is stored; the palette numbers its colors otherwise than the file."""
    spec = folders.masks(kind, a=COLORS[MAP])
    (folders.root / name).write_text(text)
    path = next(folders.root.glob("labels/a.png" if kind == "labels" else "SegmentationClass/a.png"))
    if stored == "palette":
        _palette(path, 2 - MAP, COLORS[::-1])
    if stored == "indices":
        Image.fromarray(MAP.astype(np.uint8)).save(path)
    source, _ = open_segmentation(spec)
    assert source.classes == ("background", "cell", "nucleus")
    np.testing.assert_array_equal(source.labels(0), MAP)


def test_cvats_export_of_one_subset(folders):
    """labelmap.txt in no order of colors, ImageSets/Segmentation/default.txt, VOC's color of void."""
    picture = COLORS[MAP].copy()
    picture[0, 0] = (224, 224, 192)
    spec = folders.masks("voc", frame_000000=picture)
    folders.lists("Segmentation", default=["frame_000000"])
    (folders.root / "labelmap.txt").write_text("nucleus:51,221,255::\nbackground:0,0,0::\ncell:250,50,83::")
    source, _ = open_segmentation(spec)
    assert source.classes == ("nucleus", "background", "cell")
    np.testing.assert_array_equal(source.labels(0), [[-1, 2, 0], [0, 0, 2]])


def test_classes_without_a_color_have_vocs(folders):
    spec = folders.masks("voc", a=np.array([[[0, 0, 0], [128, 0, 0], [0, 128, 0]]]))
    (folders.root / "labelmap.txt").write_text("background:::\ncell:::\nnucleus")
    source, _ = open_segmentation(spec)
    np.testing.assert_array_equal(source.labels(0), [[0, 1, 2]])


def test_gray_masks_whose_values_are_colors(folders):
    spec = folders.masks("labels", a=np.array([[0, 255], [255, 0]]))
    (folders.root / "labelmap.txt").write_text("background:0,0,0::\ncell:255,255,255::")
    source, _ = open_segmentation(spec)
    np.testing.assert_array_equal(source.labels(0), [[0, 1], [1, 0]])


def test_other_colors_are_named_with_the_file_that_would_list_them(folders):
    spec = folders.masks("voc", a=COLORS[MAP])
    source, _ = open_segmentation(spec)
    with pytest.raises(UserError, match=r"a\.png: .*\(250, 50, 83\) at row 0, column 1.*labelmap\.txt"):
        source.labels(0)
    with pytest.raises(UserError, match=r"stored as colors .*labelmap\.txt"):
        open_segmentation(folders.masks("labels", a=COLORS[MAP]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labelmap.txt", "background:0,0,0::\ncell:0,0::", r"labelmap\.txt, line 2: 'cell:0,0::'"),
        ("labelmap.txt", "background:0,0,0::\ncell:0,300,0::", "line 2: .* whole number from 0 to 255"),
        ("labelmap.txt", "background:0,0,0::\ncell:0,0,0::", "'background' and 'cell' have one color"),
        (
            "label_colors.txt",
            "0 0 0 background\ncell",
            r"label_colors\.txt, line 2: 'cell': expected r g b name",
        ),
        ("classes.txt", "caf\xe9", r"classes\.txt: not in UTF-8 \(byte 3"),
    ],
)
def test_malformed_listings_name_their_line(folders, name, text, message):
    spec = folders.masks("labels", a=MAP)
    (folders.root / name).write_text(text, "latin-1")
    with pytest.raises(UserError, match=message):
        open_segmentation(spec)


def test_names_in_utf_16_as_windows_writes_them(folders):
    spec = folders.masks("labels", a=MAP)
    (folders.root / "classes.txt").write_text("背景\ncell\nnucleus\n", "utf-16")
    source, _ = open_segmentation(spec)
    assert source.classes == ("背景", "cell", "nucleus")
