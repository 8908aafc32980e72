"""COCO's instances painted as label maps: which lies on top, what is void, and what cannot be painted."""

import json
import logging
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.paths import SHARED
from vision_jax.data.codecs.masks import encode_runs
from vision_jax.data.formats.coco.segmentation import paint
from vision_jax.data.open import open_instances, open_segmentation
from vision_jax.data.sources import SegmentationSource
from vision_jax.types import UserError

MINI = SHARED / "data/coco_mini"
needs_mini = pytest.mark.skipif(not MINI.is_dir(), reason=f"the real COCO images are not at {MINI}")

HEIGHT, WIDTH = 4, 8


def rectangle(x1, y1, x2, y2):
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def runs(*rectangles):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for x1, y1, x2, y2 in rectangles:
        mask[y1:y2, x1:x2] = True
    return {"size": [HEIGHT, WIDTH], "counts": encode_runs(mask).tolist()}


def write(root, images, categories=((7, "cat"), (3, "dog")), name="data.json"):
    """A COCO folder from (category, shape, more) of the objects of each image."""
    (root / "images").mkdir(exist_ok=True)
    annotations = []
    for number, objects in enumerate(images):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), number, np.uint8)).save(root / f"images/{number}.png")
        for category, shape, more in objects:
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": category, "iscrowd": 0,
                 "bbox": [0, 0, WIDTH, HEIGHT], "segmentation": shape, **more}
            )  # fmt: skip
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in range(len(images))
        ],
        "annotations": annotations,
        "categories": [{"id": id, "name": label} for id, label in categories],
    }
    (root / name).write_text(json.dumps(content))
    return f"coco:{root}"


def test_the_smaller_lies_on_top_whatever_the_order_and_the_area_in_the_file(tmp_path):
    small, large = (7, rectangle(1, 1, 3, 3), {"area": 900}), (3, rectangle(0, 0, 6, 3), {"area": 1})
    train, _ = open_segmentation(write(tmp_path, [[small, large], [large, small], []]))
    assert isinstance(train, SegmentationSource)
    assert train.classes == ("background", "dog", "cat")  # by category id: 3, 7
    expected = [
        [1, 1, 1, 1, 1, 1, 0, 0],
        [1, 2, 2, 1, 1, 1, 0, 0],
        [1, 2, 2, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    for index in range(2):
        np.testing.assert_array_equal(train.labels(index), expected)
    assert train.labels(0).dtype == np.int32
    assert not train.labels(2).any()  # an image without annotations is background
    assert (train.name(1), train.image(1)[0, 0, 0]) == ("1.png", 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(train)).labels(0), expected)


def test_of_two_of_one_size_the_later_lies_on_top(tmp_path):
    first, second = (3, rectangle(0, 0, 4, 1), {}), (7, rectangle(2, 0, 6, 1), {})
    train, _ = open_segmentation(write(tmp_path, [[first, second], [second, first]]))
    np.testing.assert_array_equal(train.labels(0)[0], [1, 1, 2, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(train.labels(1)[0], [1, 1, 1, 1, 2, 2, 0, 0])


def test_crowds_are_void_below_every_object(tmp_path):
    crowd = (3, runs((1, 0, 4, 1)), {"iscrowd": 1})  # smaller than the object
    thing = (7, rectangle(3, 0, 8, 2), {})
    train, _ = open_segmentation(write(tmp_path, [[crowd, thing], [thing, crowd]]))
    for index in range(2):
        np.testing.assert_array_equal(train.labels(index)[0], [0, -1, -1, 2, 2, 2, 2, 2])
        np.testing.assert_array_equal(train.labels(index)[1], [0, 0, 0, 2, 2, 2, 2, 2])
    (tmp_path / "data.json").unlink()
    whole = (3, runs((0, 0, WIDTH, HEIGHT)), {"iscrowd": 1})
    train, _ = open_segmentation(write(tmp_path, [[whole], [thing]]))
    assert (train.labels(0) == -1).all()


def test_the_box_of_an_object_without_an_outline_is_void(tmp_path, caplog):
    lost = (3, [[1, 1, 2, 2]], {"bbox": [0.75, 0, 2.5, 2]})  # two points are no outline
    never = (3, [], {"bbox": [6, 3, 1, 1]})
    thing = (7, rectangle(3, 0, 8, 1), {})
    with caplog.at_level(logging.WARNING, "vision_jax"):
        train, _ = open_segmentation(write(tmp_path, [[thing], [thing, lost, never]]))
    expected = [
        [-1, -1, -1, 2, 2, 2, 2, 2],
        [-1, -1, -1, -1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, -1, 0],
    ]
    np.testing.assert_array_equal(train.labels(1), expected)
    assert "2 boxes without a usable outline, void in label maps (first: 1.png)" in caplog.text
    with pytest.raises(UserError, match=r"data\.json: none of its 2 boxes has a usable outline"):
        open_segmentation(write(tmp_path, [[lost, never]]))


def test_a_category_called_background_is_class_0(tmp_path):
    categories = ((0, "dog"), (1, "background"), (2, "cat"))
    hole = (1, rectangle(1, 0, 2, 1), {})
    train, _ = open_segmentation(write(tmp_path, [[(2, rectangle(0, 0, 4, 1), {}), hole]], categories))
    assert train.classes == ("background", "dog", "cat")
    np.testing.assert_array_equal(train.labels(0)[0], [2, 0, 2, 2, 0, 0, 0, 0])


def test_classes_of_a_run(tmp_path):
    spec = write(tmp_path, [[(7, rectangle(0, 0, 4, 1), {})]])
    train, _ = open_segmentation(spec, ("cow", "cat", "background"))  # no object is a dog
    assert train.classes == ("cow", "cat", "background")
    np.testing.assert_array_equal(train.labels(0)[:2], [[1] * 4 + [2] * 4, [2] * 8])
    with pytest.raises(UserError, match=r"data\.json: 'cat': no class of this run"):
        open_segmentation(spec, ("background", "dog"))
    with pytest.raises(UserError, match=r"data\.json: 'background': no class of this run"):
        open_segmentation(spec, ("dog", "cat"))


def test_splits_options_and_one_json(tmp_path):
    objects = [[(7, rectangle(0, 0, 1 + i, 1), {})] for i in range(5)]
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        write(tmp_path, objects[: 5 if split == "train" else 2], name=f"annotations/{split}.json")
    train, val = open_segmentation(f"coco:{tmp_path}?images=images")
    assert (len(train), len(val)) == (5, 2)
    train, val = open_segmentation(f"coco:{tmp_path}/annotations/train.json?holdout=0.4")
    assert (len(train), len(val)) == (3, 2)
    for source in (train, val):
        for index in range(len(source)):
            assert (source.labels(index) == 2).sum() == 1 + int(source.name(index)[0])
    with pytest.raises(UserError, match=r"no option 'void'"):
        open_segmentation(f"coco:{tmp_path}?void=3")


def by_pixels(ground, masks, labels):
    """The rule of the module, said for one pixel after the other."""
    painted = ground.copy()
    for pixel in np.ndindex(ground.shape):
        here = [i for i, mask in enumerate(masks) if mask[pixel]]
        objects = [i for i in here if labels[i] >= 0]
        if objects:
            painted[pixel] = labels[min(objects, key=lambda i: (masks[i].sum(), -i))]
        elif here:
            painted[pixel] = -1
    return painted


@st.composite
def objects_on_each_other(draw):
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    count = draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fraction = draw(st.sampled_from([0.2, 0.5, 0.9]))
    masks = rng.random((count, height, width)) < fraction
    ground = rng.integers(-1, 1, (height, width)).astype(np.int32)
    return ground, masks, rng.integers(-1, 4, count).tolist()


@settings(max_examples=200, deadline=None)
@given(objects_on_each_other())
def test_painting_is_the_rule_pixel_by_pixel(scene):
    ground, masks, labels = scene
    before = ground.copy()
    painted = paint(ground, iter(masks), labels)
    assert painted.dtype == np.int32
    np.testing.assert_array_equal(painted, by_pixels(ground, masks, labels))
    np.testing.assert_array_equal(ground, before)


@needs_mini
def test_part_of_coco_opens_as_label_maps():
    sources = open_segmentation(f"coco:{MINI}")
    objects = open_instances(f"coco:{MINI}")
    assert [len(source) for source in sources] == [80, 79]
    assert sources[0].classes == ("background", *objects[0].classes)
    void = 0
    for source, truth in zip(sources, objects, strict=True):
        for index in range(0, len(source), 4):
            record, masks = truth.record(index), truth.masks(index)
            expected = np.zeros(masks.shape[1:], np.int32)
            crowds = record.ignore
            expected[masks[crowds].any(0)] = -1
            sizes = masks.sum((1, 2))
            for i in sorted(np.flatnonzero(~crowds), key=lambda i: -sizes[i]):  # a stable sort: ties in order
                expected[masks[i]] = 1 + record.labels[i]
            labels = source.labels(index)
            np.testing.assert_array_equal(labels, expected)
            assert source.image(index).shape[:2] == labels.shape
            assert source.name(index) == record.name
            void += int((labels < 0).sum())
    assert void > 0
