"""Data sets in small, written the way people and programs write them."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

COCO = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 2, "file_name": "b.png", "height": 20, "width": 30},
    ],
    "annotations": [
        {"id": 10, "image_id": 1, "category_id": 1, "bbox": [2, 2, 5, 5], "iscrowd": 0, "area": 25,
         "segmentation": [[2, 2, 7, 2, 7, 7, 2, 7]]},
        {"id": 11, "image_id": 1, "category_id": 4, "bbox": [10, 4, 8.5, 6.25], "iscrowd": 0,
         "segmentation": {"size": [20, 30], "counts": [200, 6, 394]}},
        {"id": 12, "image_id": 2, "category_id": 4, "bbox": [0, 0, 30, 20], "iscrowd": 0,
         "segmentation": [[0, 0, 30, 0, 30, 20]]},
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 4, "name": "cat"}],
}  # fmt: skip


class Folders:
    """Writes data sets into a folder.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def image(self, name: str, size: tuple[int, int] = (20, 30), value: int = 0) -> Path:
        """One color; size is (height, width)."""
        return self.map(name, np.full((*size, 3), value))

    def map(self, name: str, values: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(values, np.uint8)).save(path)
        return path

    def coco(self, change: Callable[[dict[str, Any]], Any] = lambda content: None) -> str:
        """`COCO` with a change, its images beside it; returns its spec."""
        content = copy.deepcopy(COCO)
        for image in content["images"]:
            self.image(f"images/{image['file_name']}")
        change(content)
        (self.root / "data.json").write_text(json.dumps(content))
        return f"coco:{self.root}"

    def voc(self, name: str, *objects: tuple[str, tuple[float, ...]], more: str = "") -> Path:
        """An image with objects (class, corners), each with `more` tags; returns the XML's path."""
        self.image(f"JPEGImages/{name}.png")
        tags = "".join(
            f"<object><name>{label}</name>{more}<bndbox>"
            + "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            + "</bndbox></object>"
            for label, box in objects
        )
        size = "<size><width>30</width><height>20</height><depth>3</depth></size>"
        path = self.root / f"Annotations/{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation>{size}{tags}</annotation>", "utf-8")
        return path

    def lists(self, folder: str = "Main", **names: list[str]) -> str:
        """Lists of names in ImageSets; returns the data set's spec."""
        lists = self.root / "ImageSets" / folder
        lists.mkdir(parents=True, exist_ok=True)
        for split, lines in names.items():
            (lists / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
        return f"voc:{self.root}"

    def masks(self, kind: str, **maps: Any) -> str:
        """Images with label maps, as `labels:` or `voc:` has them; returns the spec."""
        images, labels = ("images", "labels") if kind == "labels" else ("JPEGImages", "SegmentationClass")
        for name, values in maps.items():
            values = np.asarray(values)
            self.image(f"{images}/{name}.png", values.shape[:2])
            self.map(f"{labels}/{name}.png", values)
        return f"{kind}:{self.root}"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """An empty folder for data sets."""
    return Folders(tmp_path)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """What was logged as a warning since the last time one asked."""
    caplog.set_level(logging.WARNING, "vision_jax")

    def text() -> str:
        messages = "\n".join(entry.getMessage() for entry in caplog.records)
        caplog.clear()
        return messages

    return text
