"""Data sets written as records come back as they were, and damaged ones are named."""

import json
import logging
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vision_jax.data.codecs.masks import decode_runs, unpack_runs
from vision_jax.data.convert import Encoding, convert, images_per_second
from vision_jax.data.formats.records.files import Contents, SplitReader, SplitWriter, pack, unpack
from vision_jax.data.formats.synthetic.digits import Digits
from vision_jax.data.formats.synthetic.scenes import SyntheticScenes
from vision_jax.data.open import (
    open_classification,
    open_detection,
    open_instances,
    open_segmentation,
)
from vision_jax.data.pipeline.batching import detection_batch
from vision_jax.data.pipeline.loader import evaluation_batches, train_batches
from vision_jax.data.pipeline.reading import Examples, read_detection
from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import ClassificationSource, DetectionSource, InstanceSource, SegmentationSource
from vision_jax.data.transforms.augment import Augment, train_transform
from vision_jax.types import UserError

PNG = Encoding("png")


class Drawn:
    """Images of several sizes; image 2 has no box; boxes and names of odd kinds."""

    classes = ("a", "b", "ü")
    category_ids = (3, 7, 90)

    def __init__(self, length=5):
        self.length = length

    def __len__(self):
        return self.length

    def _size(self, index):
        return ((48, 64), (64, 48), (20, 20), (33, 71), (7, 100))[index]

    def masks(self, index):
        height, width = self._size(index)
        count = 0 if index == 2 else index + 1
        masks = np.random.default_rng([1, index]).random((count, height, width)) < 0.3
        masks[:1] = False
        return masks

    def segmentations(self, index):
        height, width = self._size(index)
        shapes = [[[1.0, 1.5, 30.25, 1.5, 5.0, 6.0], [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]], []]
        shapes = [*shapes, {"size": [height, width], "counts": "runs"}, [], []]
        return shapes[: len(self.masks(index))]

    def record(self, index):
        rng = np.random.default_rng([2, index])
        height, width = self._size(index)
        n = len(self.masks(index))
        corner = rng.uniform(0, 5, (n, 2))
        far = corner + rng.uniform(0.5, 1, (n, 2)) * (np.array([width, height]) - corner)
        return DetectionRecord(
            2**31 - 1 - index,
            f"folder/ü\udcff {index}.jpg",
            height,
            width,
            np.concatenate([corner, far], axis=1),
            rng.integers(0, 3, n).astype(np.int32),
            rng.random(n) < 0.5,
            rng.uniform(1, 1000, n),
        )

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (*self._size(index), 3), np.uint8)


class Maps:
    """Label maps with void and as many classes as are wished."""

    def __init__(self, count, size=(9, 13)):
        self.classes = tuple(f"c{label}" for label in range(count))
        self.size = size

    def __len__(self):
        return 2

    def name(self, index):
        return f"{index}.png"

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (*self.size, 3), np.uint8)

    def labels(self, index):
        return np.random.default_rng(index).integers(-1, len(self.classes), self.size).astype(np.int32)


def _same_record(one, two):
    assert (one.id, one.name, one.height, one.width) == (two.id, two.name, two.height, two.width)
    for name in ("boxes", "labels", "ignore", "area"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def _written(source, task, out, encoding=PNG):
    convert((source, source), task, out, encoding, "a test")
    return out


@pytest.fixture
def folder(tmp_path):
    """Instances of `Drawn`, as PNG."""
    return _written(Drawn(), "instances", tmp_path / "records")


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        hnp.arrays(
            st.sampled_from([np.uint8, np.int32, np.float32, bool]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        max_size=4,
    )
)
def test_a_record_unpacks_to_what_was_packed(arrays):
    found = unpack(pack(arrays))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_instances_come_back_exactly(folder):
    drawn = Drawn()
    source, val = open_instances(f"records:{folder}")
    assert source is val
    assert isinstance(source, InstanceSource)
    assert source.classes == drawn.classes
    assert source.category_ids == (3, 7, 90)
    assert len(source) == 5
    for index in (4, 0, 2, 1, 3):
        _same_record(source.record(index), drawn.record(index))
        np.testing.assert_array_equal(source.image(index), drawn.image(index))
        np.testing.assert_array_equal(source.masks(index), drawn.masks(index))
        assert source.segmentations(index) == drawn.segmentations(index)


def test_instances_serve_as_detection_and_nothing_else(folder):
    source, _ = open_detection(f"records:{folder}")
    assert isinstance(source, DetectionSource)
    assert not hasattr(source, "masks")
    _same_record(source.record(3), Drawn().record(3))
    with pytest.raises(UserError, match=r"records\.json: holds records for instances, not classification"):
        open_classification(f"records:{folder}")


def test_only_what_has_coco_shapes_claims_them(tmp_path):
    scenes = SyntheticScenes(2, canvas=(32, 32), objects=(1, 2), size=(8.0, 16.0))
    source, _ = open_instances(f"records:{_written(scenes, 'instances', tmp_path / 'r')}")
    assert not hasattr(source, "segmentations")
    assert source.category_ids is None
    np.testing.assert_array_equal(source.masks(1), scenes.masks(1))


def test_classes_of_a_run_take_labels_by_name(folder):
    used = {int(label) for i in range(5) for label in Drawn().record(i).labels}
    assert used == {0, 1, 2}
    source, _ = open_instances(f"records:{folder}", ("ü", "z", "b", "a"))
    assert source.classes == ("ü", "z", "b", "a")
    assert source.category_ids == (90, 92, 7, 3)
    np.testing.assert_array_equal(source.record(3).labels, np.array([3, 2, 0])[Drawn().record(3).labels])
    with pytest.raises(UserError, match=r"train\.npz: 'ü': no class of this run, which knows 'a', 'b'"):
        open_instances(f"records:{folder}", ("a", "b"))


def test_images_written_as_jpeg_come_back_close(tmp_path):
    class Smooth(Drawn):
        def image(self, index):
            ramp = np.linspace(0, 255, 64).astype(np.uint8)
            return np.stack(np.broadcast_arrays(ramp[:48, None], ramp, np.uint8(40)), axis=2)

    errors = []
    for quality in (95, 10):
        out = _written(Smooth(1), "detection", tmp_path / str(quality), Encoding(quality=quality))
        source, _ = open_detection(f"records:{out}")
        errors.append(np.abs(source.image(0).astype(int) - Smooth().image(0)).mean(axis=(0, 1)))
        _same_record(source.record(0), Drawn().record(0))
    assert errors[0].max() < 2
    assert 2 < errors[1].max() < 20


def test_two_splits_of_classified_digits(tmp_path):
    digits = Digits("train"), Digits("val")
    convert(digits, "classification", tmp_path / "r", PNG, "digits")
    sources = open_classification(f"records:{tmp_path / 'r'}")
    for source, drawn in zip(sources, digits, strict=True):
        assert isinstance(source, ClassificationSource)
        assert (len(source), source.classes) == (len(drawn), drawn.classes)
        for index in (0, 17, len(source) - 1):
            assert source.record(index) == drawn.record(index)
            np.testing.assert_array_equal(source.image(index), drawn.image(index))
    mapped, _ = open_classification(f"records:{tmp_path / 'r'}", tuple("9876543210"))
    assert mapped.record(5).label == 9 - digits[0].record(5).label


@pytest.mark.parametrize("count", [3, 255, 256, 300])
def test_label_maps_come_back_exactly_however_many_classes(tmp_path, count):
    maps = Maps(count)
    source, _ = open_segmentation(f"records:{_written(maps, 'segmentation', tmp_path / 'r')}")
    assert isinstance(source, SegmentationSource)
    assert source.classes == maps.classes
    for index in range(2):
        assert source.labels(index).dtype == np.int32
        np.testing.assert_array_equal(source.labels(index), maps.labels(index))
        np.testing.assert_array_equal(source.image(index), maps.image(index))
        assert source.name(index) == maps.name(index)
    turned, _ = open_segmentation(f"records:{tmp_path / 'r'}", maps.classes[::-1])
    labels = maps.labels(0)
    np.testing.assert_array_equal(turned.labels(0), np.where(labels < 0, -1, count - 1 - labels))
    if count == 3:
        with pytest.raises(UserError, match="'c2': no class of this run"):
            open_segmentation(f"records:{tmp_path / 'r'}", maps.classes[:2])


def test_larger_pictures_are_shrunk_with_all_that_is_on_them(tmp_path):
    drawn = Drawn()
    out = _written(drawn, "instances", tmp_path / "r", Encoding("png", size=(32, 24)))
    source, _ = open_instances(f"records:{out}")
    sizes = [(record.height, record.width) for record in map(source.record, range(5))]
    assert sizes == [(24, 32), (32, 24), (20, 20), (15, 32), (2, 32)]
    for index in range(5):
        record, before = source.record(index), drawn.record(index)
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
    np.testing.assert_array_equal(source.image(2), drawn.image(2))
    for index in range(5):
        assert source.masks(index).any((1, 2)).tolist() == drawn.masks(index).any((1, 2)).tolist()


def test_half_covered_pixels_are_set_and_thin_objects_stay(tmp_path):
    class Lines(Drawn):
        def _size(self, index):
            return (8, 8)

        def masks(self, index):
            masks = np.zeros((3, 8, 8), bool)
            masks[0, :, 1:5] = True  # one and a half new pixels of four, the half ones set
            masks[1, 3, 2:6] = True  # half of a new pixel's rows
            masks[2, 5, 5] = True  # a quarter of a new pixel
            return masks

    out = _written(Lines(1), "instances", tmp_path / "r", Encoding("png", size=(4, 4)))
    expected = np.zeros((3, 4, 4), bool)
    expected[0, :, :3] = expected[1, 1, 1:3] = expected[2, 2, 2] = True
    np.testing.assert_array_equal(open_instances(f"records:{out}")[0].masks(0), expected)


def test_label_maps_shrink_to_the_nearest_label(tmp_path):
    maps = Maps(4, (8, 12))
    out = _written(maps, "segmentation", tmp_path / "r", Encoding("png", size=(6, 6)))
    source, _ = open_segmentation(f"records:{out}")
    assert source.image(1).shape == (4, 6, 3)
    np.testing.assert_array_equal(source.labels(1), maps.labels(1)[1::2, 1::2])


def test_many_shards_read_as_one(tmp_path):
    writer = SplitWriter(tmp_path, "train", shard_bytes=2500)
    for value in range(10):
        writer.add({"x": np.full(1000, value, np.uint8)})
    split = writer.end({"y": np.arange(3)}, None)
    assert [shard.images for shard in split.shards] == [3, 3, 3, 1]
    reader = pickle.loads(pickle.dumps(SplitReader(tmp_path, split)))
    assert len(reader) == 10
    assert [int(reader.read(index)["x"][7]) for index in (9, 0, 3, 2, 5, 6)] == [9, 0, 3, 2, 5, 6]
    assert reader.where(6) == f"{tmp_path}/train-00002.array_record, record 0"
    assert reader.where(9) == f"{tmp_path}/train-00003.array_record, record 0"
    with pytest.raises(ValueError, match="read-only"):
        reader.read(0)["x"][0] = 1


def test_an_empty_split_opens(tmp_path):
    source, _ = open_instances(f"records:{_written(Drawn(0), 'instances', tmp_path / 'r')}")
    assert len(source) == 0
    assert np.isnan(images_per_second(source, "instances"))


@pytest.mark.slow
def test_loader_processes_read_records(folder):
    source, _ = open_detection(f"records:{folder}")
    collate = partial(detection_batch, canvas=(100, 100), max_objects=5, batch_size=5)
    transform = train_transform(Augment(hflip=0.0), (100, 100))
    batches = train_batches(Examples(source, read_detection, transform.prepare), transform, collate, 5, 0, 2)
    batch = next(batches)
    batches.close()
    (whole,) = evaluation_batches(Examples(source, read_detection, transform.prepare), collate, 5)
    order = np.argsort(-batch.id)
    assert batch.id[order].tolist() == whole.id.tolist() == [2**31 - 1 - i for i in range(5)]
    np.testing.assert_array_equal(batch.image[order], whole.image)
    np.testing.assert_array_equal(batch.boxes[order], whole.boxes)


def _flipped(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)


def test_an_altered_shard_is_named_when_the_record_is_read(folder):
    shard = folder / "train-00000.array_record"
    content = shard.read_bytes()
    for at in (len(content) // 4, 100):
        shard.write_bytes(content)
        _flipped(shard, at)
        source, _ = open_detection(f"records:{folder}")
        with pytest.raises(UserError, match=r"train-00000\.array_record, record \d: damaged or altered"):
            _ = [source.image(index) for index in range(5)]


def test_a_record_in_anothers_place_is_found_by_its_checksum(folder):
    split = Contents.read(folder).splits["train"]
    reader = SplitReader(folder, split)
    reader.table["crc32"] = np.roll(reader.table["crc32"], 1)
    with pytest.raises(UserError, match=r"record 2: damaged or altered \(its checksum is another\)"):
        reader.read(2)


def test_truncated_missing_and_altered_files_are_named_at_opening(folder):
    shard, table, listing = (folder / n for n in ("train-00000.array_record", "train.npz", "records.json"))
    content, text = shard.read_bytes(), listing.read_text()

    def refused(words):
        with pytest.raises(UserError, match=words):
            open_detection(f"records:{folder}")

    shard.write_bytes(content[:-1])
    refused(rf"train-00000\.array_record: has {len(content) - 1} bytes where {len(content)} were written")
    shard.unlink()
    refused(r"train-00000\.array_record: no such file")
    shard.write_bytes(content)
    listing.write_text(text.replace('"version": 1', '"version": 2'))
    refused(r"records\.json: version 2 of the format, only 1 is read: convert the data again")
    listing.write_text(text[:-20])
    refused(r"records\.json: malformed json")
    listing.write_text(text.replace('"classes"', '"clases"'))
    refused(r"records\.json: a field is missing or malformed \('classes'\)")
    listing.write_text(text.replace('"train.npz"', '"../train.npz"'))
    refused(r"records\.json: its task, classes, splits or file names make no sense")
    listing.write_text(text.replace('"images": 5', '"images": 4'))
    refused(r"records\.json: its shards' images are not the table's 5")
    listing.write_text(text)
    _flipped(table, 200)
    refused(r"train\.npz: altered since it was written")
    table.unlink()
    refused(r"train\.npz: no such file")
    listing.unlink()
    refused(r"records\.json: no such file: .* is no folder of records")


def test_nothing_is_left_of_a_conversion_that_fails(tmp_path):
    class Broken(Drawn):
        def image(self, index):
            if index == 3:
                raise UserError("3.jpg: truncated")
            return super().image(index)

    out = tmp_path / "deeper" / "r"
    with pytest.raises(UserError, match=r"3\.jpg: truncated"):
        _written(Broken(), "instances", out)
    assert list(out.parent.iterdir()) == []


def test_what_a_killed_conversion_left_does_not_open_and_is_replaced(tmp_path):
    out = tmp_path / "r"
    left = tmp_path / ".r.partial"
    left.mkdir()
    (left / "train-00000.array_record").write_bytes(b"half")
    with pytest.raises(UserError, match="no folder of records"):
        open_detection(f"records:{left}")
    _written(Drawn(), "detection", out)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    with pytest.raises(UserError, match="there is something already"):
        _written(Drawn(), "detection", out)


def test_foreign_files_in_a_folder_of_records_do_not_matter(tmp_path):
    out = tmp_path / "r"
    out.mkdir()
    (out / ".DS_Store").write_bytes(b"x")  # a folder that was made with Finder
    _written(Drawn(), "detection", out)
    for name in ("._records.json", "._train-00000.array_record", "Thumbs.db", ".nfs0001", "3.tmp"):
        (out / name).write_bytes(b"x")
    assert len(open_detection(f"records:{out}")[0]) == 5


def test_conversion_tells_its_progress(tmp_path, caplog):
    said = []
    sources = Drawn(), Drawn(3)
    convert(
        sources, "detection", tmp_path / "r", Encoding(), "a test", lambda *progress: said.append(progress)
    )
    assert said == [("train", i + 1, 5) for i in range(5)] + [("val", i + 1, 3) for i in range(3)]
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, val = open_detection(f"records:{tmp_path / 'r'}")
    assert (len(train), len(val)) == (5, 3)
    assert "one split only" not in caplog.text
    assert images_per_second(train, "detection") > 0
    assert json.loads((tmp_path / "r" / "records.json").read_text())["source"] == "a test"
