"""Label maps that make no sense, of one pixel, or void everywhere: one message, or the whole pipeline."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.open import open_segmentation
from vision_jax.data.pipeline.batching import check, segmentation_batch
from vision_jax.data.pipeline.reading import read_segmentation
from vision_jax.data.transforms.augment import Augment, train_transform
from vision_jax.types import UserError


def _map(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def _save(path, size):
    _map(path, np.zeros((*size, 3)))


def test_label_maps_that_make_no_sense(tmp_path, caplog):
    _save(tmp_path / "images/a.jpg", (1, 3))
    _save(tmp_path / "images/alone.jpg", (1, 3))
    _map(tmp_path / "labels/a.png", [[0, 1, 2]])
    _map(tmp_path / "labels/astray.png", [[0, 1, 2]])
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    with caplog.at_level(logging.WARNING, "vision_jax"):
        source, _ = open_segmentation(f"labels:{tmp_path}")
    assert len(source) == 1
    assert "1 images without a label map in" in caplog.text
    assert "(first: alone.jpg)" in caplog.text
    assert "(first: astray.png)" in caplog.text
    with pytest.raises(UserError, match=r"a\.png: holds the indices \[2\].*\?void=2"):
        source.labels(0)
    with pytest.raises(UserError, match=r"classes\.txt: 'road': no class of this run"):
        open_segmentation(f"labels:{tmp_path}", ("sky",))
    (tmp_path / "classes.txt").write_text("sky\nroad\n\ntree")
    with pytest.raises(UserError, match=r"classes\.txt, line 3"):
        open_segmentation(f"labels:{tmp_path}")
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(UserError, match="has 3 classes, but this run knows 2"):
        open_segmentation(f"labels:{tmp_path}?classes=3", ("sky", "road"))
    _map(tmp_path / "labels/a.png", np.zeros((2, 3)))
    source, _ = open_segmentation(f"labels:{tmp_path}?classes=1")
    with pytest.raises(
        UserError, match=r"a\.jpg: the image is 3x1 .* its label map .*labels/a\.png says 3x2"
    ):
        source.image(0)
    _map(tmp_path / "labels/a.png", np.full((1, 3), 255))
    (tmp_path / "labels/astray.png").unlink()
    with pytest.raises(UserError, match=r"all 1 label maps are void everywhere.*\?classes=K"):
        open_segmentation(f"labels:{tmp_path}")
    (tmp_path / "labels/a.png").unlink()
    with pytest.raises(UserError, match=r"none of its 2 images has a label map"):
        open_segmentation(f"labels:{tmp_path}")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_label_maps_of_colors_are_refused_whether_or_not_classes_are_counted(tmp_path, mode):
    _save(tmp_path / "images/a.jpg", (2, 3))
    (tmp_path / "labels").mkdir()
    path = tmp_path / f"labels/a.{'tif' if mode == 'CMYK' else 'png'}"
    Image.fromarray(np.full((2, 3), 1, np.uint8)).convert("RGB").convert(mode).save(path)
    words = rf"labels/a\..*: a label map must be a gray or palette image .* \({mode}\): write the index"
    with pytest.raises(UserError, match=words):
        open_segmentation(f"labels:{tmp_path}")
    source, _ = open_segmentation(f"labels:{tmp_path}?classes=2")
    with pytest.raises(UserError, match=words):
        source.labels(0)


def test_masks_of_0_and_255_are_one_class_and_refused(tmp_path):
    _save(tmp_path / "images/a.jpg", (2, 3))
    _map(tmp_path / "labels/a.png", [[0, 255, 0], [0, 0, 255]])
    with pytest.raises(
        UserError, match=r"hold one class, index 0, .*\?foreground=255 after .*or store it as 1"
    ):
        open_segmentation(f"labels:{tmp_path}")


def test_of_many_strange_indices_a_few_are_listed(tmp_path):
    _save(tmp_path / "images/a.jpg", (1, 200))
    _map(tmp_path / "labels/a.png", [range(200)])
    source, _ = open_segmentation(f"labels:{tmp_path}?classes=2")
    listed = ", ".join(str(index) for index in range(3, 15))
    with pytest.raises(UserError, match=rf"holds the indices \[{listed} and 185 more\]"):
        source.labels(0)


@pytest.mark.parametrize("kind", ["labels", "voc", "coco"])
@pytest.mark.parametrize("augment", [Augment(), Augment(scale=(0.5, 2.0), crop=1.0, color=0.5, vflip=0.5)])
def test_one_pixel_and_nothing_but_void_go_through_the_pipeline(tmp_path, kind, augment):
    """Image a has one pixel, of class 1; b is void everywhere."""
    maps = {"a": np.ones((1, 1), np.uint8), "b": np.full((20, 30), 255, np.uint8)}
    for name, values in maps.items():
        if kind == "labels":
            _save(tmp_path / f"images/{name}.png", values.shape)
            _map(tmp_path / f"labels/{name}.png", values)
        if kind == "voc":
            _save(tmp_path / f"JPEGImages/{name}.png", values.shape)
            _map(tmp_path / f"SegmentationClass/{name}.png", values)
        if kind == "coco":
            _save(tmp_path / f"images/{name}.png", values.shape)
    if kind == "coco":
        images = [
            {"id": i, "file_name": f"{name}.png", "height": len(values), "width": len(values[0])}
            for i, (name, values) in enumerate(maps.items())
        ]
        thing = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]}
        thing["segmentation"] = [[0, 0, 1, 0, 1, 1, 0, 1]]
        crowd = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 30, 20], "iscrowd": 1}
        crowd["segmentation"] = {"size": [20, 30], "counts": [0, 600]}
        categories = [{"id": 1, "name": "dog"}]
        content = {"images": images, "annotations": [thing, crowd], "categories": categories}
        (tmp_path / "data.json").write_text(json.dumps(content))
    source, _ = open_segmentation(f"{kind}:{tmp_path}")
    assert source.labels(0).tolist() == [[1]]
    assert (source.labels(1) == -1).all()
    canvas = (16, 24)
    transform = train_transform(augment, canvas)
    examples = [transform.prepare(read_segmentation(source, index)) for index in range(2)]
    for seed in range(5):
        varied = [transform(example, np.random.default_rng(seed)) for example in examples]
        batch = check(segmentation_batch(varied, canvas, 3))
        height, width = batch.size[0]
        assert (batch.labels[0, :height, :width] == 1).all()
        assert (batch.labels[0] == 1).sum() == height * width > 0
        assert (batch.labels[1:] == -1).all()
        assert batch.original_size.tolist() == [[1, 1], [20, 30], [16, 24]]
        assert batch.example_valid.tolist() == [True, True, False]
