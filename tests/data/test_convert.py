"""Conversion to records: images made smaller with all that is annotated, and what a failure leaves."""

import json
import logging

import numpy as np
import pytest

from tests.data.made_sources import Generated, Maps, same_record, written
from vision_jax.data.codecs.masks import decode_runs, unpack_runs
from vision_jax.data.convert import convert, images_per_second
from vision_jax.data.families.detection import DETECTION, StoredDetection, boxes_record, boxes_table
from vision_jax.data.family import Family
from vision_jax.data.open import (
    open_data,
    open_detection,
    open_instances,
    open_segmentation,
)
from vision_jax.data.pipeline.reading import read_detection
from vision_jax.data.sources import DetectionSource
from vision_jax.data.storage.encoding import Encoding
from vision_jax.data.storage.layout import RecordLayout
from vision_jax.types import UserError


def test_images_written_as_jpeg_come_back_close(tmp_path):
    class Smooth(Generated):
        def image(self, index):
            ramp = np.linspace(0, 255, 64).astype(np.uint8)
            return np.stack(np.broadcast_arrays(ramp[:48, None], ramp, np.uint8(40)), axis=2)

    errors = []
    for quality in (95, 10):
        out = written(Smooth(1), "detection", tmp_path / str(quality), Encoding(quality=quality))
        source, _ = open_detection(f"records:{out}")
        errors.append(np.abs(source.image(0).astype(int) - Smooth().image(0)).mean(axis=(0, 1)))
        same_record(source.record(0), Generated().record(0))
    assert errors[0].max() < 2
    assert 2 < errors[1].max() < 20


def test_larger_pictures_are_shrunk_with_all_that_is_on_them(tmp_path):
    original = Generated()
    out = written(original, "instances", tmp_path / "r", Encoding("png", size=(32, 24)))
    source, _ = open_instances(f"records:{out}")
    sizes = [(record.height, record.width) for record in map(source.record, range(5))]
    assert sizes == [(24, 32), (32, 24), (20, 20), (15, 32), (2, 32)]
    for index in range(5):
        record, before = source.record(index), original.record(index)
        height, width = record.height, record.width
        assert source.image(index).shape[:2] == source.masks(index).shape[1:] == (height, width)
        factors = np.array([width / before.width, height / before.height] * 2)
        np.testing.assert_allclose(record.boxes, before.boxes * factors, rtol=1e-5)
        assert (record.boxes <= [width, height, width, height]).all()
        np.testing.assert_allclose(record.area, before.area * factors[0] * factors[1], rtol=1e-5)
    ((first, second),) = source.segmentations(0)
    np.testing.assert_allclose(first, [0.5, 0.75, 15.125, 0.75, 2.5, 3.0])
    np.testing.assert_allclose(second, [0, 0, 0.5, 0, 0.5, 0.5])
    runs = source.segmentations(3)[2]
    assert runs["size"] == [15, 32]
    np.testing.assert_array_equal(decode_runs(unpack_runs(runs["counts"]), 15, 32), source.masks(3)[2])
    np.testing.assert_array_equal(source.image(2), original.image(2))
    for index in range(5):
        assert source.masks(index).any((1, 2)).tolist() == original.masks(index).any((1, 2)).tolist()


def test_half_covered_pixels_are_set_and_thin_objects_stay(tmp_path):
    class Lines(Generated):
        def _size(self, index):
            return (8, 8)

        def masks(self, index):
            masks = np.zeros((3, 8, 8), bool)
            masks[0, :, 1:5] = True  # one and a half new pixels of four, the half ones set
            masks[1, 3, 2:6] = True  # half of a new pixel's rows
            masks[2, 5, 5] = True  # a quarter of a new pixel
            return masks

    out = written(Lines(1), "instances", tmp_path / "r", Encoding("png", size=(4, 4)))
    expected = np.zeros((3, 4, 4), bool)
    expected[0, :, :3] = expected[1, 1, 1:3] = expected[2, 2, 2] = True
    np.testing.assert_array_equal(open_instances(f"records:{out}")[0].masks(0), expected)


def test_label_maps_shrink_to_the_nearest_label(tmp_path):
    maps = Maps(4, (8, 12))
    out = written(maps, "segmentation", tmp_path / "r", Encoding("png", size=(6, 6)))
    source, _ = open_segmentation(f"records:{out}")
    assert source.image(1).shape == (4, 6, 3)
    np.testing.assert_array_equal(source.labels(1), maps.labels(1)[1::2, 1::2])


def test_a_new_family_is_one_value(tmp_path):
    """One that also reads what was written for detection; no file of the project names it."""
    layout = RecordLayout(boxes_record, boxes_table, StoredDetection, ("boxes", "detection"))
    family = Family[DetectionSource]("boxes", read_detection, layout=layout)
    original = Generated()
    convert((original, original), family, tmp_path / "boxes", Encoding("png"), "a test")
    assert json.loads((tmp_path / "boxes/records.json").read_text())["task"] == "boxes"
    for folder in (tmp_path / "boxes", written(original, "detection", tmp_path / "detection")):
        source, _ = open_data(family, f"records:{folder}")
        same_record(source.record(3), original.record(3))
    with pytest.raises(UserError, match="holds records for boxes, not detection"):
        open_detection(f"records:{tmp_path / 'boxes'}")
    unstored = Family[DetectionSource]("boxes", read_detection)
    with pytest.raises(UserError, match="no layout in records"):
        convert((original, original), unstored, tmp_path / "r", Encoding(), "a test")
    with pytest.raises(UserError, match="boxes takes nothing yet"):
        open_data(unstored, f"records:{tmp_path / 'boxes'}")


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path):
    class Broken(Generated):
        def image(self, index):
            if index == 3:
                raise UserError("3.jpg: truncated")
            return super().image(index)

    out = tmp_path / "deeper" / "r"
    with pytest.raises(UserError, match=r"3\.jpg: truncated"):
        written(Broken(), "instances", out)
    assert list(out.parent.iterdir()) == []


def test_what_a_killed_conversion_left_does_not_open_and_is_replaced(tmp_path):
    out = tmp_path / "r"
    left = tmp_path / ".r.partial"
    left.mkdir()
    (left / "train-00000.array_record").write_bytes(b"half")
    with pytest.raises(UserError, match="no folder of records"):
        open_detection(f"records:{left}")
    written(Generated(), "detection", out)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    with pytest.raises(UserError, match="there is something already"):
        written(Generated(), "detection", out)


def test_conversion_tells_its_progress(tmp_path, caplog):
    said = []
    sources = Generated(), Generated(3)
    convert(sources, DETECTION, tmp_path / "r", Encoding(), "a test", lambda *progress: said.append(progress))
    assert said == [("train", i + 1, 5) for i in range(5)] + [("val", i + 1, 3) for i in range(3)]
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_detection(f"records:{tmp_path / 'r'}")
    assert (len(train), len(val)) == (5, 3)
    assert "one split only" not in caplog.text
    assert images_per_second(train, DETECTION) > 0
    assert json.loads((tmp_path / "r" / "records.json").read_text())["source"] == "a test"
