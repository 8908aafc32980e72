"""Masks of 0 and 255, where 255 is void: refused, warned of, or read as the foreground they are."""

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.open import open_segmentation
from vision_jax.types import UserError

MASK = np.zeros((8, 10), np.uint8)
MASK[2:6, 3:8] = 255


def _named(folders, *names):
    (folders.root / "classes.txt").write_text("\n".join(names))


@pytest.mark.parametrize("kind", ["labels", "voc"])
@pytest.mark.parametrize("names", [("background", "cell"), ("background", "cell", "nucleus")])
def test_foreground_as_void_is_refused_with_advice_that_helps(folders, kind, names):
    spec = folders.masks(kind, a=MASK, b=MASK.T)
    _named(folders, *names)
    with pytest.raises(
        UserError, match=r"'background' alone occurs in the 2 .*255, which is void, covers 25%"
    ) as error:
        open_segmentation(spec)
    if len(names) == 2:
        assert "add ?foreground=255 after the folder" in str(error.value)
        source, _ = open_segmentation(f"{spec}?foreground=255")
        assert source.classes == names
        np.testing.assert_array_equal(source.labels(0), MASK // 255)


def test_the_option_classes_and_vocs_own_names_are_no_way_around(folders):
    labels = folders.masks("labels", a=MASK)
    with pytest.raises(UserError, match=r"'class0' alone occurs.*\?foreground=255"):
        open_segmentation(f"{labels}?classes=2")
    voc = folders.masks("voc", a=MASK)
    with pytest.raises(UserError, match=r"of 21 classes, 'background' alone occurs.*\?foreground=255"):
        open_segmentation(voc)
    for spec in (f"{labels}?foreground=255", f"{voc}?foreground=255"):
        source, _ = open_segmentation(spec)
        assert source.classes == ("background", "foreground")
        np.testing.assert_array_equal(source.labels(0), MASK // 255)


def test_the_foreground_goes_by_name_to_the_classes_of_a_run(folders):
    spec = folders.masks("labels", a=MASK) + "?foreground=255"
    _named(folders, "background", "cell")
    source, _ = open_segmentation(spec, ("cell", "background"))
    np.testing.assert_array_equal(source.labels(0), 1 - MASK // 255)
    _named(folders, "background", "cell", "nucleus")
    with pytest.raises(UserError, match=r"\?foreground=255 is for masks of two classes.* there are 3"):
        open_segmentation(spec)


@pytest.mark.parametrize("kind", ["labels", "voc"])
def test_half_of_the_maps_with_foreground_as_void_are_a_warning(folders, said, kind):
    spec = folders.masks(kind, a=MASK, b=MASK // 255, c=MASK, d=MASK // 255)
    _named(folders, "background", "cell")
    open_segmentation(spec)
    assert "2 of the 4 label maps looked at hold one class and index 255" in said()
    source, _ = open_segmentation(f"{spec}?foreground=255")
    assert said().count("looked at") == 0
    for index in range(4):
        np.testing.assert_array_equal(source.labels(index), MASK // 255)


def test_a_named_class_that_never_occurs_beside_much_void_is_a_warning(folders, said):
    values = np.where(MASK == 255, 255, np.arange(10) % 2)
    spec = folders.masks("labels", a=values)
    _named(folders, "background", "cell", "nucleus")
    open_segmentation(spec)
    assert "the 1 label maps looked at have no pixel of 'nucleus', while index 255" in said()


def test_maps_as_they_should_be_give_no_warning(folders, said):
    border = MASK // 255
    border[2, 3:8] = 255
    spec = folders.masks("labels", a=border, b=MASK // 255, c=np.zeros((8, 10)), d=np.full((8, 10), 255))
    _named(folders, "background", "cell")
    open_segmentation(spec)
    assert "looked at" not in said()


def test_an_evaluation_split_of_one_class_is_a_warning_and_a_training_split_an_error(folders, said):
    good, bad = MASK // 255, MASK
    for split, values in (("train", good), ("val", bad)):
        folders.image(f"{split}/x.png", (8, 10))
        folders.map(f"{split}annot/x.png", values)
    _named(folders, "background", "cell")
    train, _ = open_segmentation(f"labels:{folders.root}")
    assert "evaluation split: the 1 label maps looked at have no pixel of 'cell', while index 255" in said()
    np.testing.assert_array_equal(train.labels(0), good)
    folders.map("trainannot/x.png", bad)
    with pytest.raises(UserError, match="training split: of 2 classes, 'background' alone"):
        open_segmentation(f"labels:{folders.root}")


def test_void_everywhere_is_said(folders, said):
    spec = folders.masks("voc", a=np.full((8, 10), 255))
    open_segmentation(spec)
    assert "are void everywhere: there is nothing to learn" in said()


@pytest.mark.parametrize("suffix", ["jpg", "jpeg"])
@pytest.mark.parametrize("kind", ["labels", "voc"])
def test_label_maps_saved_as_jpeg_are_refused(folders, kind, suffix):
    folders.masks(kind, a=MASK // 255)
    labels = folders.root / ("labels" if kind == "labels" else "SegmentationClass")
    (labels / "a.png").unlink()
    Image.fromarray(MASK // 255).save(labels / f"a.{suffix}", quality=95)
    _named(folders, "background", "cell")
    source, _ = open_segmentation(f"{kind}:{folders.root}")
    with pytest.raises(
        UserError, match=rf"a\.{suffix}: .* stored as JPEG, whose compression alters the indices"
    ):
        source.labels(0)
    (folders.root / "classes.txt").unlink()
    if kind == "labels":  # the classes are counted, from the same file
        with pytest.raises(UserError, match="stored as JPEG"):
            open_segmentation(f"labels:{folders.root}")


def test_indices_with_wide_gaps_are_said(folders, said):
    spec = folders.masks("labels", a=np.where(MASK == 255, 100, 0), b=np.full((8, 10), 200))
    source, _ = open_segmentation(spec)
    assert "the label maps hold 3 indices alone, 0, 100, 200" in said()
    assert len(source.classes) == 201
    open_segmentation(folders.masks("labels", a=np.where(MASK == 255, 2, 0), b=np.full((8, 10), 1)))
    assert "indices alone" not in said()
