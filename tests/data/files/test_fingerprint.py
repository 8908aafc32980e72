"""A changed split is noticed by its files and its annotations, without reading images."""

import os

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.files.fingerprint import fingerprint
from vision_jax.data.formats.synthetic.digits import Digits
from vision_jax.data.open import open_classification, open_segmentation


@pytest.fixture
def folder(tmp_path):
    """Three images of two classes in each of two splits."""
    for split in ("train", "val"):
        for number, name in enumerate(("cat", "cat", "dog")):
            path = tmp_path / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), 50 * number, np.uint8)).save(path)
    return tmp_path


def fingerprints(folder):
    return [fingerprint(source) for source in open_classification(f"folder:{folder}")]


def test_a_split_opened_again_is_the_same_and_another_split_another(folder):
    train, val = fingerprints(folder)
    assert fingerprints(folder) == [train, val]
    assert train != val


@pytest.mark.parametrize("change", ["content", "time", "new", "gone", "class"])
def test_a_change_of_a_file_is_noticed_in_its_split_alone(folder, change):
    train, val = fingerprints(folder)
    path = folder / "train" / "cat" / "1.png"
    stat = path.stat()
    if change == "content":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(path)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size != stat.st_size
    elif change == "time":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))
    elif change == "new":
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path.with_name("4.png"))
    elif change == "gone":
        path.unlink()
    else:
        path.rename(folder / "train" / "dog" / "1.png")
    after = fingerprints(folder)
    assert after[0] != train
    assert after[1] == val


def test_a_label_map_is_a_file_of_its_split(tmp_path):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            path = tmp_path / kind / split / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.eye(4, dtype=np.uint8)).save(path)
    (tmp_path / "classes.txt").write_text("ground\nobject\n")

    def opened():
        return [fingerprint(source) for source in open_segmentation(f"labels:{tmp_path}")]

    before = opened()
    os.utime(tmp_path / "labels" / "val" / "a.png", ns=(0, 0))
    assert [a == b for a, b in zip(before, opened(), strict=True)] == [True, False]


def test_a_source_that_states_no_files_has_none():
    assert fingerprint(Digits("train")) is None
