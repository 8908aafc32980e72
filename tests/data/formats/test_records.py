"""Data sets written as records come back as they were, and damaged ones are named."""

import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.made_sources import PNG, Generated, Maps, same_record, written
from vision_jax.data.convert import convert, images_per_second
from vision_jax.data.families.classification import CLASSIFICATION
from vision_jax.data.families.instances import INSTANCES
from vision_jax.data.formats.synthetic.digits import Digits
from vision_jax.data.formats.synthetic.scenes import SyntheticScenes
from vision_jax.data.open import (
    open_classification,
    open_detection,
    open_instances,
    open_segmentation,
    usual_task,
)
from vision_jax.data.pipeline.batching import detection_batch
from vision_jax.data.pipeline.loader import evaluation_batches, train_batches
from vision_jax.data.pipeline.reading import Examples, read_detection
from vision_jax.data.sources import ClassificationSource, DetectionSource, InstanceSource, SegmentationSource
from vision_jax.data.storage.files import Contents, SplitReader, SplitWriter, pack, unpack
from vision_jax.data.transforms.augment import Augment, train_transform
from vision_jax.types import UserError


@pytest.fixture
def folder(tmp_path):
    """Instances of `Generated`, as PNG."""
    return written(Generated(), "instances", tmp_path / "records")


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
    original = Generated()
    source, val = open_instances(f"records:{folder}")
    assert source is val
    assert isinstance(source, InstanceSource)
    assert source.classes == original.classes
    assert source.category_ids == (3, 7, 90)
    assert len(source) == 5
    for index in (4, 0, 2, 1, 3):
        same_record(source.record(index), original.record(index))
        np.testing.assert_array_equal(source.image(index), original.image(index))
        np.testing.assert_array_equal(source.masks(index), original.masks(index))
        assert source.segmentations(index) == original.segmentations(index)


def test_records_are_usually_for_what_they_were_written_for(folder):
    assert usual_task(f"records:{folder}") == "instances"
    with pytest.raises(UserError, match="there is no nowhere"):
        usual_task("records:nowhere")


def test_instances_serve_as_detection_and_nothing_else(folder):
    source, _ = open_detection(f"records:{folder}")
    assert isinstance(source, DetectionSource)
    assert not hasattr(source, "masks")
    same_record(source.record(3), Generated().record(3))
    with pytest.raises(UserError, match=r"records\.json: holds records for instances, not classification"):
        open_classification(f"records:{folder}")


def test_only_what_has_coco_shapes_claims_them(tmp_path):
    scenes = SyntheticScenes(2, canvas=(32, 32), objects=(1, 2), size=(8.0, 16.0))
    source, _ = open_instances(f"records:{written(scenes, 'instances', tmp_path / 'r')}")
    assert not hasattr(source, "segmentations")
    assert source.category_ids is None
    np.testing.assert_array_equal(source.masks(1), scenes.masks(1))


def test_classes_of_a_run_take_labels_by_name(folder):
    used = {int(label) for i in range(5) for label in Generated().record(i).labels}
    assert used == {0, 1, 2}
    source, _ = open_instances(f"records:{folder}", ("ü", "z", "b", "a"))
    assert source.classes == ("ü", "z", "b", "a")
    assert source.category_ids == (90, 92, 7, 3)
    np.testing.assert_array_equal(source.record(3).labels, np.array([3, 2, 0])[Generated().record(3).labels])
    with pytest.raises(UserError, match=r"train\.npz: 'ü': no class of this run, which knows 'a', 'b'"):
        open_instances(f"records:{folder}", ("a", "b"))


def test_two_splits_of_classified_digits(tmp_path):
    digits = Digits("train"), Digits("val")
    convert(digits, CLASSIFICATION, tmp_path / "r", PNG, "digits")
    sources = open_classification(f"records:{tmp_path / 'r'}")
    for source, original in zip(sources, digits, strict=True):
        assert isinstance(source, ClassificationSource)
        assert (len(source), source.classes) == (len(original), original.classes)
        for index in (0, 17, len(source) - 1):
            assert source.record(index) == original.record(index)
            np.testing.assert_array_equal(source.image(index), original.image(index))
    mapped, _ = open_classification(f"records:{tmp_path / 'r'}", tuple("9876543210"))
    assert mapped.record(5).label == 9 - digits[0].record(5).label


@pytest.mark.parametrize("count", [3, 255, 256, 300])
def test_label_maps_come_back_exactly_however_many_classes(tmp_path, count):
    maps = Maps(count)
    source, _ = open_segmentation(f"records:{written(maps, 'segmentation', tmp_path / 'r')}")
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
    source, _ = open_instances(f"records:{written(Generated(0), 'instances', tmp_path / 'r')}")
    assert len(source) == 0
    assert np.isnan(images_per_second(source, INSTANCES))


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


def test_foreign_files_in_a_folder_of_records_do_not_matter(tmp_path):
    out = tmp_path / "r"
    out.mkdir()
    (out / ".DS_Store").write_bytes(b"x")  # a folder that was made with Finder
    written(Generated(), "detection", out)
    for name in ("._records.json", "._train-00000.array_record", "Thumbs.db", ".nfs0001", "3.tmp"):
        (out / name).write_bytes(b"x")
    assert len(open_detection(f"records:{out}")[0]) == 5
