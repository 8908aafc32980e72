"""Writes any data set as records, pictures encoded anew and, if wanted, smaller.

A picture is made smaller, never larger, as for training: areas averaged, aspect kept, boxes and areas scaled
with it, the nearest label; a pixel of a mask is set where half of it is covered. What was made smaller is the
original from then on: small, medium and large objects are told by its pixels.

A conversion writes into a hidden folder beside its destination, which gets its name when all is there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from vision_jax.data.codecs.masks import encode_runs, pack_runs
from vision_jax.data.formats.records.files import Contents, Split, SplitWriter, pack_json
from vision_jax.data.pipeline.reading import (
    read_classification,
    read_detection,
    read_instances,
    read_segmentation,
)
from vision_jax.data.sources import spread
from vision_jax.data.transforms.geometry import Canvas, Example, fit_factor, oriented, scale_by
from vision_jax.types import UserError, is_system_name

T = TypeVar("T")
Record = tuple[dict[str, np.ndarray], dict[str, Any]]


@dataclass(frozen=True)
class Encoding:
    """How pictures are stored.

    Attributes:
        format: jpeg loses a little, png nothing.
        quality: of JPEG, 1 to 100.
        size: (long, short) sides in pixels that pictures are made to fit into; None keeps them as they are.
    """

    format: Literal["jpeg", "png"] = "jpeg"
    quality: int = 95
    size: tuple[int, int] | None = None

    def encode(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, " bytes"]:
        """The content of an image file."""
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality] if self.format == "jpeg" else []
        suffix = ".jpg" if self.format == "jpeg" else ".png"
        return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1]

    def fit(self, example: Example) -> Example:
        """An example that is no larger than `size`."""
        if self.size is None:
            return example
        long, short = self.size
        height, width = example.size
        return scale_by(example, min(1.0, fit_factor(example, oriented((short, long), height, width))))


def convert(
    sources: tuple[Any, Any],
    task: str,
    out: Path,
    encoding: Encoding,
    origin: str,
    progress: Callable[[str, int, int], None] = lambda split, done, length: None,
) -> None:
    """Writes a data set's records.

    Args:
        sources: (training, evaluation) of the task; one and the same where there is one split.
        task: detection, classification, segmentation or instances.
        out: a folder that does not exist yet, or is empty.
        encoding: of the pictures.
        origin: where the data come from, for people.
        progress: called with a split's name, images written and its length.

    Raises:
        UserError: `out` is taken, or anything is wrong with the source; nothing is left of `out` then.
    """
    if out.exists() and (not out.is_dir() or not all(is_system_name(path.name) for path in out.iterdir())):
        raise UserError(f"{out}: there is something already: remove it, or choose another --out")
    train, val = sources
    out = out.resolve()
    folder = out.with_name(f".{out.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)  # what a killed conversion left
    folder.mkdir(parents=True)
    try:
        splits = {"train": _write_split(train, task, "train", folder, encoding, progress)}
        if val is not train:
            splits["val"] = _write_split(val, task, "val", folder, encoding, progress)
        Contents(task, tuple(train.classes), origin, splits).write(folder)
        if out.is_dir():
            shutil.rmtree(out)  # an operating system's own files at most
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def images_per_second(source: Any, task: str, most: int = 256) -> float:
    """How fast a source is read, as for training, one image after the other, in this thread.

    Args:
        source: of the task.
        task: detection, classification, segmentation or instances.
        most: so many images are read, evenly spread; the first of them twice, so that files are open.

    Returns:
        Images a second; NaN where there are none.
    """
    picked = spread(len(source), most)
    if not picked:
        return float("nan")
    read = _READ[task]
    read(source, picked[0])
    start = time.perf_counter()
    for index in picked:
        read(source, index)
    return len(picked) / (time.perf_counter() - start)


def _write_split(
    source: Any,
    task: str,
    name: str,
    folder: Path,
    encoding: Encoding,
    progress: Callable[[str, int, int], None],
) -> Split:
    """Writes all images of a split, in order, and returns what `records.json` says of it."""
    writer = SplitWriter(folder, name)
    rows = []
    length = len(source)
    record = _RECORD[task]
    for arrays, row in _ahead(lambda index: record(source, index, encoding), length):
        writer.add(arrays)
        rows.append(row)
        progress(name, len(rows), length)
    ids = getattr(source, "category_ids", None)
    return writer.end(_table(rows, task), None if ids is None else tuple(map(int, ids)))


def _ahead(make: Callable[[int], T], length: int) -> Iterator[T]:
    """make(0), make(1), ... in order, made by as many threads as there are cores, a few ahead."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        indices = iter(range(length))
        running = deque(pool.submit(make, index) for index in islice(indices, 2 * threads))
        while running:
            done = running.popleft().result()
            running.extend(pool.submit(make, index) for index in islice(indices, 1))
            yield done


def _detection(source: Any, index: int, encoding: Encoding) -> Record:
    """A record of an image with boxes, float64 in pixels of the stored picture, and its row of the table."""
    record = source.record(index)
    example = encoding.fit(read_detection(source, index))
    height, width = example.size
    scale_x, scale_y = width / record.width, height / record.height
    row = {
        "names": record.name,
        "ids": record.id,
        "sizes": (height, width),
        "boxes": np.minimum(
            record.boxes * [scale_x, scale_y, scale_x, scale_y], [width, height, width, height]
        ),
        "labels": example.objects.labels,
        "ignore": example.objects.ignore,
        "area": record.area * (scale_x * scale_y),
    }
    return {"image": encoding.encode(example.image.pixels)}, row


def _instances(source: Any, index: int, encoding: Encoding) -> Record:
    """As `_detection`, with int32 run lengths of all objects one after another, and where each starts."""
    arrays, row = _detection(source, index, encoding)
    size = row["sizes"]
    whole = source.masks(index)
    masks = [encode_runs(_fitted(mask, size)) for mask in whole]
    arrays["runs"] = np.concatenate([np.zeros(0), *masks]).astype(np.int32)
    arrays["run_starts"] = np.cumsum([0, *map(len, masks)]).astype(np.int32)
    if hasattr(source, "segmentations"):
        shapes = source.segmentations(index)
        if size != whole.shape[1:]:
            shapes = [
                _scaled(shape, whole.shape[1:], size, runs) for shape, runs in zip(shapes, masks, strict=True)
            ]
        arrays["segmentations"] = pack_json(shapes)
    return arrays, row


def _scaled(shape: Any, old: Canvas, new: Canvas, runs: Int[np.ndarray, " runs"]) -> Any:
    """An object as COCO's tools take it, in the new size: polygons scaled, run lengths of its new mask."""
    if isinstance(shape, dict):
        return {"size": list(new), "counts": pack_runs(runs)}
    factors = np.array([new[1] / old[1], new[0] / old[0]])
    return [(np.reshape(polygon, (-1, 2)) * factors).ravel().tolist() for polygon in shape]


def _fitted(mask: Bool[np.ndarray, "h w"], size: Canvas) -> Bool[np.ndarray, "nh nw"]:
    """A mask in a picture's size; an object too thin to cover half a pixel keeps those it covers most."""
    if mask.shape == size or not mask.any():
        return mask if mask.shape == size else np.zeros(size, bool)
    covered = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return covered >= min(0.5, float(covered.max()))


def _classification(source: Any, index: int, encoding: Encoding) -> Record:
    """A record of a labeled image, and its row of the table."""
    record = source.record(index)
    example = encoding.fit(read_classification(source, index))
    row = {"names": record.name, "ids": record.id, "labels": record.label}
    return {"image": encoding.encode(example.image.pixels)}, row


def _segmentation(source: Any, index: int, encoding: Encoding) -> Record:
    """A record of an image and its label map, a PNG of 8 or 16 bits, its largest value void; and its row."""
    example = encoding.fit(read_segmentation(source, index))
    kind = np.uint8 if len(source.classes) < 256 else np.uint16
    void = np.iinfo(kind).max
    stored = example.label_map.labels
    labels = np.where(stored < 0, void, stored).astype(kind)
    arrays = {"image": encoding.encode(example.image.pixels), "labels": cv2.imencode(".png", labels)[1]}
    return arrays, {"names": source.name(index), "used": np.unique(stored[stored >= 0])}


_READ = {
    "detection": read_detection,
    "instances": read_instances,
    "classification": read_classification,
    "segmentation": read_segmentation,
}
_RECORD: dict[str, Callable[[Any, int, Encoding], Record]] = {
    "detection": _detection,
    "instances": _instances,
    "classification": _classification,
    "segmentation": _segmentation,
}


def _table(rows: list[dict[str, Any]], task: str) -> dict[str, np.ndarray]:
    """The rows of a split's images as flat arrays."""
    table = {"names": pack_json([row["names"] for row in rows])}

    def joined(name: str, dtype: type, *width: int) -> Shaped[np.ndarray, "n *width"]:
        """A column of all rows after one another, [n, *width], empty where there is no row."""
        return np.concatenate([np.zeros((0, *width), dtype), *(row[name] for row in rows)]).astype(dtype)

    if task == "segmentation":
        return table | {"used": np.unique(joined("used", np.int32))}
    table["ids"] = np.array([row["ids"] for row in rows], np.int64)
    if task == "classification":
        labels = np.array([row["labels"] for row in rows], np.int32)
        return table | {"labels": labels, "used": np.unique(labels)}
    labels = joined("labels", np.int32)
    return table | {
        "sizes": np.array([row["sizes"] for row in rows], np.int32).reshape(-1, 2),
        "starts": np.cumsum([0, *(len(row["labels"]) for row in rows)]).astype(np.int64),
        "boxes": joined("boxes", np.float64, 4),
        "labels": labels,
        "ignore": joined("ignore", bool),
        "area": joined("area", np.float64),
        "used": np.unique(labels),
    }
