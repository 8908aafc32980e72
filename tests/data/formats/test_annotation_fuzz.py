"""COCO and VOC annotations in which one value was changed: a result, or a message that names file and field.

One value's type, sign, size or presence is changed in a valid file, which is then opened for every task
and read whole. A short version runs as a test; the long one is

    uv run python tests/data/formats/test_annotation_fuzz.py 10000
"""

from __future__ import annotations

import copy
import json
import logging
import math
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.open import open_detection, open_instances, open_segmentation
from vision_jax.evaluation.detection.mask_iou import encode_shape
from vision_jax.types import UserError

OPENERS = {"detection": open_detection, "instances": open_instances, "segmentation": open_segmentation}
SLOW = 10.0  # seconds for one file of a few objects, on any machine
SHAPES: list[Any] = [
    [[2, 2, 7, 2, 7, 7, 2, 7]],
    {"size": [20, 30], "counts": [200, 6, 394]},
    {"size": [20, 30], "counts": "X6l3"},
]
COCO = {
    "info": {"year": 2026},
    "images": [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (1, 2)],
    "annotations": [
        {"id": n, "image_id": n % 2 + 1, "category_id": 1 + n % 2, "bbox": [2.5, 3, 5 + n, 4], "iscrowd": 0,
         "area": 30.5, "segmentation": SHAPES[n]}
        for n in range(3)
    ],
    "categories": [{"id": i, "name": f"class {i}", "supercategory": "thing"} for i in (1, 2)],
}  # fmt: skip
VOC = """<annotation><folder>x</folder><filename>1.png</filename><size><width>30</width><height>20</height>
<depth>3</depth></size><segmented>0</segmented><object><name>dog</name><pose>Left</pose><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>10.5</xmax><ymax>12</ymax></bndbox></object><object><name>cat</name>
<bndbox><xmin>15</xmin><ymin>4</ymin><xmax>20</xmax><ymax>18</ymax></bndbox></object></annotation>"""


def other(value: Any, rng: random.Random) -> Any:
    """A value of another type, sign or size."""
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 3
    huge = number * 10**400 if isinstance(number, int) else 1e308
    texts = ["", " ", "text", "\0", "\ud800", "x" * 5000, "_" * 9999, str(value)]
    numbers = [0, 1, -1, -number, 0.5, number * 1000, number * 10**9, huge, 2**63, 1e-320]
    others = [None, True, False, math.nan, math.inf, -math.inf, [], {}, [[]], [None], [number] * 4]
    return rng.choice([*texts, *numbers, *others, [value], {"value": value}])


def change_json(content: Any, rng: random.Random) -> tuple[str, bool]:
    """Changes one value anywhere; returns its key, or its table's, and whether something was taken away."""
    containers = []

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict | list):
            containers.append((node, key))
            for k, child in node.items() if isinstance(node, dict) else enumerate(node):
                walk(child, k if isinstance(k, str) else key)

    walk(content, "")
    node, key = rng.choice([each for each in containers if each[0]])
    at = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
    what = rng.random()
    if what < 0.2:
        del node[at]
    elif what < 0.3 and isinstance(node, list):
        node.insert(at, copy.deepcopy(node[at]))
    else:
        node[at] = other(node[at], rng)
    return (at if isinstance(at, str) else key), what < 0.2


def change_xml(root: ElementTree.Element, rng: random.Random) -> tuple[str, bool]:
    """The same of an XML file."""
    parent = rng.choice([element for element in root.iter() if len(element)])
    at = rng.randrange(len(parent))
    child = parent[at]
    tag = child.tag
    what = rng.random()
    if what < 0.2:
        parent.remove(child)
    elif what < 0.3:
        parent.insert(at, copy.deepcopy(child))
    elif what < 0.4:
        child.tag = rng.choice(
            [child.tag.upper(), child.tag + "s", "{http://x}" + child.tag, "object", "name"]
        )
    elif what < 0.45:
        child.attrib["name"] = child.tag
    else:
        text = str(other(child.text or 3, rng)).replace("\0", "?").replace("\ud800", "?")
        for inner in list(child):
            child.remove(inner)
        child.text = text
    return tag, what < 0.4


def write(root: Path, kind: str, rng: random.Random) -> tuple[str, bool]:
    """A data set with one changed file."""
    if kind == "coco":
        content = copy.deepcopy(COCO)
        changed = change_json(content, rng)
        (root / "data.json").write_text(json.dumps(content))
        return changed
    tree = ElementTree.fromstring(VOC)
    changed = change_xml(tree, rng)
    (root / "Annotations/1.xml").write_bytes(ElementTree.tostring(tree))
    return changed


def read_all(spec: str, task: str) -> int:
    """Everything that there is in a data set's training split; returns the number of boxes."""
    source: Any = OPENERS[task](spec)[0]
    boxes = 0
    for index in range(len(source)):
        image = source.image(index)
        if task == "segmentation":
            labels = source.labels(index)
            assert labels.shape == image.shape[:2]
            assert -1 <= labels.min() <= labels.max() < len(source.classes)
            continue
        record = source.record(index)
        boxes += len(record.boxes)
        assert image.shape[:2] == (record.height, record.width)
        assert np.isfinite(record.boxes).all()
        assert np.isfinite(record.area).all()
        corners = record.boxes.astype(np.float32)
        assert (corners[:, :2] < corners[:, 2:]).all()
        assert (corners >= 0).all()
        assert (corners[:, 2:] <= [record.width, record.height]).all()
        assert ((record.labels >= 0) & (record.labels < len(source.classes))).all()
        if task == "instances":
            assert source.masks(index).shape == (len(record.boxes), *image.shape[:2])
            if hasattr(source, "segmentations"):
                for shape in source.segmentations(index):
                    if shape:
                        encode_shape(shape, image.shape[:2])
    return boxes


def prepare(root: Path) -> None:
    for folder in ("images", "JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir()
    for name in (1, 2):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / f"images/{name}.png")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "JPEGImages/1.png")
    objects = np.zeros((20, 30), np.uint8)
    objects[3:12, 2:10], objects[3:18, 14:20] = 1, 2
    Image.fromarray(objects).save(root / "SegmentationObject/1.png")
    Image.fromarray(objects).save(root / "SegmentationClass/1.png")


class Heard(logging.Handler):
    """Warnings since it was emptied."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def trial(root: Path, seed: int, heard: Heard) -> Counter[str]:
    """One changed file, opened for every task; what came of it."""
    rng = random.Random(seed)
    kind = rng.choice(["coco", "voc"])
    key, taken = write(root, kind, rng)
    outcomes: Counter[str] = Counter()
    tasks = ("detection", "instances", "segmentation") if kind == "coco" else ("detection", "instances")
    for task in tasks:
        heard.messages.clear()
        started = time.monotonic()
        try:
            boxes = read_all(f"{kind}:{root}", task)
        except UserError as error:
            message = str(error)
            assert str(root) in message, f"seed {seed}: no file in {message!r}"
            named = (key, key[:-1], "malformed", "there is no class", "occurs twice")
            where = any(word and word in message for word in named)
            outcomes["message, field named" if where else f"message without {key!r}: {message[-150:]!r}"] += 1
        else:
            said = bool([text for text in heard.messages if "one split only" not in text])
            whole = {"coco": 3, "voc": 2}[kind]
            assert task == "segmentation" or boxes or said, f"seed {seed}: a silent empty split"
            assert task == "segmentation" or taken or said or boxes >= whole, (
                f"seed {seed}: a box lost silently"
            )
            outcomes["result and warning" if said else "result"] += 1
        assert time.monotonic() - started < SLOW, f"seed {seed}: {time.monotonic() - started:.1f} s"
    return outcomes


def fuzz(count: int, first: int = 0) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    heard = Heard()
    logger = logging.getLogger("vision_jax")
    logger.addHandler(heard)
    propagate, logger.propagate = logger.propagate, False
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error")
            prepare(Path(folder))
            for seed in range(first, first + count):
                try:
                    outcomes += trial(Path(folder), seed, heard)
                except Exception as error:
                    error.add_note(f"seed {seed}: uv run python {sys.argv[0]} 1 {seed}")
                    raise
    finally:
        logger.removeHandler(heard)
        logger.propagate = propagate
    return outcomes


@pytest.mark.parametrize("first", [0, 100])
def test_one_changed_value_gives_a_result_or_a_message(first):
    outcomes = fuzz(60, first)
    assert {"message, field named", "result", "result and warning"} <= outcomes.keys()


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]] or [10_000]
    for outcome, times in fuzz(*numbers).most_common():
        print(f"{times:7}  {outcome}")
