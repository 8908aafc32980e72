"""What notebooks, Macs and network drives leave in folders is no data, whatever reads them."""

import shutil

import numpy as np
import pytest

from vision_jax.cli.predict import find_images
from vision_jax.data.files.listing import entries, files_below, find, is_hidden
from vision_jax.data.open import open_classification, open_detection, open_segmentation

LEFT_BEHIND = (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".Trash")


@pytest.mark.parametrize(
    "name", [*LEFT_BEHIND, "._x.xml", ".DS_Store", "Thumbs.db", "desktop.ini", "#recycle"]
)
def test_names_that_systems_write_are_hidden(name):
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["cat", "_cat", "a.b", "MACOSX", "thumbs", "recycle", "checkpoints"])
def test_names_of_data_are_not_hidden(name):
    assert not is_hidden(name)


def test_listings_pass_them_over_below_a_hidden_folder(tmp_path):
    root = tmp_path / ".data"
    for name in ("a/1.png", "a/.ipynb_checkpoints/1.png", "__MACOSX/a/._1.png", "b.json", "._b.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "a/loop").symlink_to(root / "a")
    assert [path.name for path in entries(root)] == ["a", "b.json"]
    assert [path.relative_to(root).as_posix() for path in files_below(root)] == ["b.json", "a/1.png"]
    assert [path.name for path in find(root, "*.json")] == ["b.json"]
    assert [path.relative_to(root).as_posix() for path in find(root, "*/*.png")] == ["a/1.png"]


@pytest.mark.parametrize("left", LEFT_BEHIND)
def test_copies_in_them_are_no_images_of_a_class(folders, tmp_path, left):
    for label in ("cat", "dog"):
        for number in range(5):
            folders.image(f"{label}/{number}.png")
        shutil.copytree(tmp_path / label, tmp_path / label / left)
    shutil.copytree(tmp_path / "cat", tmp_path / left / "cat")
    train, val = open_classification(f"folder:{tmp_path}")
    assert train.classes == ("cat", "dog")
    assert len(train) + len(val) == 10
    assert len(list(find_images([tmp_path]))) == 10


def test_splits_and_classes_are_not_looked_for_in_them(folders, tmp_path):
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            folders.image(f"{split}/{label}/{split}.png")
        shutil.copytree(tmp_path / split, tmp_path / "__MACOSX" / split)
        folders.image(f"{split}/.ipynb_checkpoints/x.png")
    train, val = open_classification(f"folder:{tmp_path}")
    assert train.classes == ("cat", "dog")
    assert (len(train), len(val)) == (2, 2)


def test_beside_voc_annotations_lists_and_maps(folders):
    folders.voc("a", ("dog", (1, 1, 5, 5)))
    folders.map("SegmentationClass/a.png", np.eye(20, 30))
    for kind, name in (("Main", "train"), ("Segmentation", "train")):
        folders.lists(kind, **{name: ["a"]})
        (folders.root / f"ImageSets/{kind}/._{name}.txt").write_bytes(b"\0\5\x16\7")
    for name in ("Annotations/._a.xml", "JPEGImages/._a.png", "SegmentationClass/._a.png"):
        (folders.root / name).write_bytes(b"\0\5\x16\7\0\2")
    assert len(open_detection(f"voc:{folders.root}")[0]) == 1
    assert len(open_segmentation(f"voc:{folders.root}")[0]) == 1


def test_beside_coco_files_and_label_maps(folders, tmp_path):
    spec = folders.coco()
    for folder in (".", "__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "._train_annotations.json").write_bytes(b"\0\5")
        (tmp_path / folder / "._data.json").write_bytes(b"\0\5")
    (tmp_path / ".ipynb_checkpoints/train-annotations.json").write_text("{}")
    assert len(open_detection(spec)[0]) == 2
    spec = folders.masks("labels", x=np.eye(4))
    for folder in ("images", "labels"):
        shutil.copytree(tmp_path / folder, tmp_path / folder / ".ipynb_checkpoints")
    assert len(open_segmentation(spec)[0]) == 1


def test_folders_beside_the_splits_are_named(folders, tmp_path, said):
    for folder in ("train/cat", "train/dog", "dev/cat", "docs"):
        folders.image(f"{folder}/x.png")
    train, val = open_classification(f"folder:{tmp_path}")
    assert train is val
    assert "the folders 'dev', 'docs' beside the splits 'train' are passed over" in said()
