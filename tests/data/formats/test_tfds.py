"""Data sets as tensorflow-datasets prepares them, written here by its own writer, without TensorFlow."""

import io
import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vision_jax.data.open import open_classification, open_detection, open_segmentation
from vision_jax.data.sources import ClassificationSource, DetectionSource, SegmentationSource
from vision_jax.types import UserError

SIZES = {0: (20, 30), 1: (40, 20), 2: (10, 10), 3: (8, 16), 4: (20, 30)}


def _encoded(pixels, format="PNG", **options):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format, **options)
    return content.getvalue()


def _pixels(number):
    return np.random.default_rng(number).integers(0, 255, (*SIZES[number], 3), np.uint8)


def _map(number):
    """Indices 0, 1, 2 and 255."""
    indices = np.random.default_rng(number).integers(0, 4, SIZES[number])
    return np.where(indices == 3, 255, indices).astype(np.uint8)


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Five images with all kinds of annotations."""

    # To find the code of a module with dots in its name, TFDS imports a package that it does not require.
    __module__ = "tiny"

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features
        objects = {
            "bbox": features.BBoxFeature(),
            "label": features.ClassLabel(names=["cat", "dog"]),
            "pose": features.ClassLabel(names=["left", "right"]),
            "is_crowd": np.bool_,
            "area": np.float32,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict(
                {
                    "image": features.Image(),
                    "image/id": np.int64,
                    "image/filename": features.Text(),
                    "label": features.ClassLabel(names=["day", "night", "dusk"]),
                    "objects": features.Sequence(objects),
                    "segmentation_mask": features.Image(shape=(None, None, 1)),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples((0, 1, 2)), "validation": self._examples((3, 4))}

    def _generate_examples(self): ...

    def _examples(self, numbers):
        for number in numbers:
            yield number, self._example(number)

    def _example(self, number):
        box = tfds.features.BBox
        objects = [
            {"bbox": box(0.1, 0.2, 0.5, 0.6), "label": 1, "pose": 0, "is_crowd": False, "area": 31.5},
            {"bbox": box(0.0, 0.0, 1.0, 1.0), "label": 0, "pose": 1, "is_crowd": True, "area": 7.0},
            {"bbox": box(0.5, 0.5, 0.5, 0.75), "label": 0, "pose": 0, "is_crowd": False, "area": 0.0},
            {"bbox": box(0.5, 0.5, 0.75, 0.75), "label": -1, "pose": 0, "is_crowd": False, "area": 0.0},
        ]
        return {
            "image": _encoded(_pixels(number)),
            "image/id": 100 + number,
            "image/filename": f"photo {number}.png",
            "label": number % 3,
            "objects": [] if number == 2 else objects,
            "segmentation_mask": _encoded(_map(number)),
        }


class Other(Tiny):
    """A label map with names beside two class labels of no usual name; no boxes, ids or file names."""

    __module__ = "tiny"

    def _info(self):
        features = tfds.features
        names = ["(void)", "sky", "road"]
        return tfds.core.DatasetInfo(
            builder=self,
            features=features.FeaturesDict(
                {
                    "picture": features.Image(shape=(None, None, 1)),
                    "weather": features.ClassLabel(names=["wet", "dry"]),
                    "city": features.ClassLabel(num_classes=3),
                    "annotation": features.LabeledImage(labels=names),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples((0, 1, 2))}

    def _example(self, number):
        return {
            "picture": _encoded(_pixels(number)[..., 0]),
            "weather": 0,
            "city": 2,
            "annotation": _encoded(_map(number)),
        }


class Masks(Tiny):
    """Masks whose foreground is 255."""

    __module__ = "tiny"

    def _info(self):
        image, mask = tfds.features.Image(), tfds.features.Image(shape=(None, None, 1))
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"image": image, "segmentation_mask": mask})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples((0, 1, 2))}

    def _example(self, number):
        mask = np.where(_map(number) == 1, 255, 0).astype(np.uint8)
        return {"image": _encoded(_pixels(number)), "segmentation_mask": _encoded(mask)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folders of all three data sets."""
    tfds.disable_progress_bar()
    root = tmp_path_factory.mktemp("tfds")
    folders = []
    for kind in (Tiny, Other, Masks):
        builder = kind(data_dir=root, file_format="array_record")
        builder.download_and_prepare()
        folders.append(builder.data_path)
    return folders


def test_boxes_in_pixels_with_ids_names_and_classes(prepared, caplog):
    train, val = open_detection(f"tfds:{prepared[0]}")
    assert isinstance(train, DetectionSource)
    assert train.classes == val.classes == ("cat", "dog")
    assert (len(train), len(val)) == (3, 2)
    records = {record.id: (i, record) for i, record in ((i, train.record(i)) for i in range(3))}
    assert records.keys() == {100, 101, 102}
    for number in range(3):
        index, record = records[100 + number]
        assert record.name == f"photo {number}.png"
        assert (record.height, record.width) == SIZES[number]
        np.testing.assert_array_equal(train.image(index), _pixels(number))
    np.testing.assert_allclose(records[100][1].boxes, [[6, 2, 18, 10], [0, 0, 30, 20]], rtol=1e-6)
    np.testing.assert_allclose(records[101][1].boxes, [[4, 4, 12, 20], [0, 0, 20, 40]], rtol=1e-6)
    assert records[102][1].boxes.shape == (0, 4)
    record = records[100][1]
    assert record.labels.tolist() == [1, 0]
    assert record.ignore.tolist() == [False, True]
    assert record.area.tolist() == [31.5, 7.0]
    assert "2 boxes of zero or negative size, dropped" in caplog.text
    assert "2 objects without a label, dropped" in caplog.text


def test_labels_go_to_the_runs_classes_by_name(prepared):
    train, _ = open_detection(f"tfds:{prepared[0]}", ("dog", "eel", "cat"))
    (record,) = (train.record(i) for i in range(3) if train.record(i).id == 100)
    assert record.labels.tolist() == [0, 2]
    with pytest.raises(UserError, match=r"tiny/1\.0\.0, train: 'cat': no class of this run"):
        open_detection(f"tfds:{prepared[0]}", ("dog",))
    train, _ = open_classification(f"tfds:{prepared[0]}", ("night", "day"))
    with pytest.raises(UserError, match="'dusk': no class of this run"):
        _ = [train.record(index) for index in range(3)]


def test_a_source_can_be_pickled(prepared):
    source, _ = open_detection(f"tfds:{prepared[0]}")
    content = pickle.dumps(source)
    copy = pickle.loads(content)
    assert b"tensorflow_datasets" not in content  # a worker imports it when it reads
    np.testing.assert_array_equal(copy.image(1), source.image(1))
    np.testing.assert_array_equal(copy.record(1).boxes, source.record(1).boxes)


def test_images_of_a_tfds_set_have_their_classes(prepared):
    train, val = open_classification(f"tfds:{prepared[0]}")
    assert isinstance(train, ClassificationSource)
    assert train.classes == ("day", "night", "dusk")
    for source in (train, val):
        for index in range(len(source)):
            record = source.record(index)
            number = int(record.name.removeprefix("photo ").removesuffix(".png"))
            assert (record.id, record.label) == (index, number % 3)
            np.testing.assert_array_equal(source.image(index), _pixels(number))


def test_label_maps_without_names(prepared):
    with pytest.raises(UserError, match=r"segmentation_mask have no names: .*\?classes=K"):
        open_segmentation(f"tfds:{prepared[0]}")
    train, _ = open_segmentation(f"tfds:{prepared[0]}?classes=2&void=0")
    assert isinstance(train, SegmentationSource)
    assert train.classes == ("class0", "class1")
    for index in range(3):
        stored = _map(int(train.name(index).removeprefix("photo ").removesuffix(".png")))
        expected = np.where((stored == 255) | (stored == 0), -1, stored.astype(int) - 1)
        np.testing.assert_array_equal(train.labels(index), expected)
    train, _ = open_segmentation(f"tfds:{prepared[0]}", ("sky",))
    with pytest.raises(UserError, match=r"record 0, segmentation_mask: holds the indices \[2\]"):
        train.labels(0)
    with pytest.raises(UserError, match="has 3 classes, but this run knows 1"):
        open_segmentation(f"tfds:{prepared[0]}?classes=3", ("sky",))


def test_label_maps_with_names_and_gray_pictures_of_any_name(prepared, caplog):
    train, val = open_segmentation(f"tfds:{prepared[1]}")
    assert train is val
    assert "train[80%:]" in caplog.text
    assert train.classes == ("sky", "road")
    number = next(n for n in range(3) if train.image(0).shape[:2] == SIZES[n])
    np.testing.assert_array_equal(train.image(0), np.repeat(_pixels(number)[..., :1], 3, axis=2))
    stored = _map(number)
    np.testing.assert_array_equal(train.labels(0), np.where(stored == 255, -1, stored.astype(int) - 1))
    mapped, _ = open_segmentation(f"tfds:{prepared[1]}", ("road", "sky"))
    np.testing.assert_array_equal(mapped.labels(0), np.array([1, 0, -1])[train.labels(0)])


def test_masks_of_0_and_255_are_refused_or_read_as_foreground(prepared):
    with pytest.raises(UserError, match=r"of 2 classes, 'class0' alone occurs in the 3 .*\?foreground=255"):
        open_segmentation(f"tfds:{prepared[2]}?classes=2")
    train, _ = open_segmentation(f"tfds:{prepared[2]}?foreground=255")
    number = next(n for n in range(3) if train.image(0).shape[:2] == SIZES[n])
    np.testing.assert_array_equal(train.labels(0), _map(number) == 1)


def test_splits_and_parts_of_splits(prepared):
    train, val = open_classification(f"tfds:{prepared[0]}?train=validation&val=train[1:]")
    assert (len(train), len(val)) == (2, 2)
    whole, _ = open_classification(f"tfds:{prepared[0]}")
    assert val.record(0).name == whole.record(1).name
    with pytest.raises(UserError, match="no split 'trian', there is train, validation; did you mean train"):
        open_classification(f"tfds:{prepared[0]}?train=trian")
    with pytest.raises(UserError, match=r"train\[x\]: TFDS cannot open this split"):
        open_classification(f"tfds:{prepared[0]}?train=train[x]")


def test_features_that_are_not_there_are_named(prepared):
    with pytest.raises(UserError, match=r"a Sequence of boxes .* there is none; .*picture \(Image\)"):
        open_detection(f"tfds:{prepared[1]}")
    with pytest.raises(UserError, match=r"expected a ClassLabel, but .*city.* could all be it"):
        open_classification(f"tfds:{prepared[1]}")


def test_folders_that_cannot_be_opened(prepared, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=rf"no dataset_info.json: .*did you mean {prepared[0]}"):
        open_detection(f"tfds:{prepared[0].parent}")
    copy = tmp_path / "copy"
    shutil.copytree(prepared[0], copy)
    info = json.loads((copy / "dataset_info.json").read_text())
    (copy / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=r"prepared as tfrecord.*file_format='array_record'"):
        open_detection(f"tfds:{copy}")
    text = (copy / "features.json").read_text()
    (copy / "features.json").write_text(text.replace("tensorflow_datasets.core.features.text", "this.text"))
    with pytest.raises(UserError, match=r"'this\.text_feature\.Text' is no feature of TFDS' own"):
        open_detection(f"tfds:{copy}")
    assert "this" not in sys.modules
    (copy / "features.json").write_text("{")
    with pytest.raises(UserError, match=r"features\.json: malformed json"):
        open_detection(f"tfds:{copy}")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r'pip install "vision_jax\[tfds\]"'):
        open_detection(f"tfds:{prepared[0]}")


def test_a_damaged_shard_is_named(prepared, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(prepared[0], copy)
    (shard,) = copy.glob("*train*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"copy, train: record \d cannot be read"):
        open_detection(f"tfds:{copy}")


def test_no_tensorflow_is_imported_though_it_be_there(prepared, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow/__init__.py").write_text("")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from vision_jax.data.open import open_classification, open_detection, open_segmentation
spec = "tfds:" + {str(prepared[0])!r}
open_detection(spec)[0].image(0)
open_classification(spec)[0].record(0)
open_segmentation(spec + "?classes=3")[0].labels(0)
assert "tensorflow" not in sys.modules, "imported"
try:
    open_detection(spec, "cat")
except Exception as error:
    assert "('cat',) for one" in str(error), error
else:
    raise AssertionError("a text was taken for classes")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
