"""`vision-jax convert-data` end to end: what it writes reads as its source does, and its gain is told."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.cli.convert_data import file_bytes
from vision_jax.data.open import open_classification, open_instances, open_segmentation


@pytest.fixture
def images(tmp_path):
    """Class folders of a few smooth photographs, in `in`."""
    for split, number in (("train", 4), ("val", 1)):
        for name in ("ant", "bee"):
            folder = tmp_path / "in" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = np.full((60, 90, 3), 40 * i + 10 * len(name), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.bmp")
    return tmp_path / "in"


def test_a_folder_is_shrunk_and_the_gain_is_told(images, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["convert-data", f"folder:{images}", "--out", str(out), "--size", "30", "20"]) == 0
    told = capsys.readouterr()
    assert "train: 8 of 8 images written" in told.err
    before, after = re.search(r"\(10 images written\) \| ([\d,]+) \| ([\d,]+) \|", told.out).groups()
    assert (
        int(before.replace(",", ""))
        == file_bytes(images)
        == sum(f.stat().st_size for f in images.rglob("*.bmp"))
    )
    assert int(after.replace(",", "")) == file_bytes(out)
    assert re.search(r"images/s, 8 training images, one thread \| [\d.,e+]+ \| [\d.,e+]+ \|", told.out)
    assert f"--data records:{out}" in told.out
    train, val = open_classification(f"records:{out}")
    assert (len(train), len(val), train.classes) == (8, 2, ("ant", "bee"))
    assert train.record(5).name == "bee/1.bmp"
    assert train.image(5).shape == (20, 30, 3)
    np.testing.assert_allclose(train.image(5), 70, atol=2)


def _voc(root):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for split, value in (("train", 20), ("val", 3)):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(f"{split}\n")
        Image.new("RGB", (6, 4), (value, 2, 1)).save(root / f"JPEGImages/{split}.png")
        stored = np.full((4, 6), value, np.uint8)
        stored[0], stored[:, 0] = 0, 255
        Image.fromarray(stored).save(root / f"SegmentationClass/{split}.png")


def _coco(root):
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        Image.new("RGB", (6, 4), (9, 8, 7)).save(root / f"{split}/a.png")
        boxes = [(1, 0, 5, 3), (2, 1, 3, 2)] if split == "train" else []
        things = [
            {"id": i, "image_id": 1, "category_id": 1 + i, "bbox": [x, y, r - x, b - y],
             "segmentation": [[x, y, r, y, r, b, x, b]]}
            for i, (x, y, r, b) in enumerate(boxes)
        ]  # fmt: skip
        crowd = {"id": 9, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 6, 4]}
        crowd["segmentation"] = {"size": [4, 6], "counts": [20, 4]}
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}],
            "annotations": [*things, crowd],
            "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        }
        (root / f"{split}/_annotations.coco.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_label_maps_of_every_kind_convert(kind, tmp_path, capsys):
    {"voc": _voc, "coco": _coco}[kind](tmp_path / "in")
    spec = f"{kind}:{tmp_path / 'in'}"
    words = ["--task", "segmentation", "--encoding", "png", "--out", str(tmp_path / "r")]
    assert main(["convert-data", spec, *words]) == 0
    assert "| segmentation | before | after |" in capsys.readouterr().out
    before, after = open_segmentation(spec), open_segmentation(f"records:{tmp_path / 'r'}")
    seen = set()
    for source, records in zip(before, after, strict=True):
        assert (len(source), source.classes) == (len(records), records.classes)
        assert source.name(0) == records.name(0)
        np.testing.assert_array_equal(records.labels(0), source.labels(0))
        np.testing.assert_array_equal(records.image(0), source.image(0))
        seen |= set(np.unique(records.labels(0)).tolist())
    assert seen == ({-1, 0, 3, 20} if kind == "voc" else {-1, 0, 1, 2})


def test_drawn_scenes_have_no_bytes_before(tmp_path, capsys):
    spec = "synthetic?length=3&val_length=2&canvas=64&objects=2"
    words = ["convert-data", spec, "--task", "instances", "--encoding", "png", "--out", str(tmp_path / "r")]
    assert main(words) == 0
    assert "| bytes, all files (5 images written) | none | " in capsys.readouterr().out
    records, scenes = (open_instances(data)[1] for data in (f"records:{tmp_path / 'r'}", spec))
    np.testing.assert_array_equal(records.image(1), scenes.image(1))
    np.testing.assert_array_equal(records.masks(1), scenes.masks(1))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--size", "8", "16"], "long side first"),
        (["digits", "--quality", "0"], "--quality 0: give 1 to 100"),
        (["digits", "--task", "detection"], "detection takes coco:DIR"),
        (["folder:nowhere"], "there is no nowhere"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(words, said, tmp_path, capsys):
    assert main(["convert-data", *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["convert-data", "digits", "--out", str(tmp_path / "file" / "out")]) == 2
    assert f"cannot write {tmp_path / 'file'}" in capsys.readouterr().err
