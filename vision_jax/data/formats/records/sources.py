"""Data that `vision-jax convert-data` wrote, for every task: `records:DIR`.

Records keep their source's order, ids and names; boxes, labels, masks and label maps are exactly those of the
source, or of its pictures made smaller. Where the run's classes are given, labels go by name.

Of each task, the arrays in the table (a row an image, unless said otherwise) and in a record:

- all: `names` (a json list as bytes), `used` (the labels that occur); `image`, a JPEG or PNG file;
- detection, instances: `ids`, `sizes` (height, width), `starts`; of all boxes one after the other `boxes`,
  `labels`, `ignore`, `area`, as in `vision_jax.data.annotations.boxes`;
- instances, besides: `runs` and `run_starts`, run lengths of each box's mask
  (`vision_jax.data.codecs.masks`); of a COCO file's, `segmentations`, what its own tools make masks of, as
  json;
- classification: `ids`, `labels`;
- segmentation: `labels`, a PNG file, 255 (of 16 bits: 65535) where void.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt, UInt8

from vision_jax.data.annotations.boxes import Annotations, labels_by_name
from vision_jax.data.codecs.masks import decode_runs
from vision_jax.data.files.splits import report_single
from vision_jax.data.formats.records.files import CONTENTS, Contents, SplitReader, unpack_json
from vision_jax.data.records import ClassificationRecord, DetectionRecord
from vision_jax.types import UserError


class _Records:
    """What the sources of all tasks have in common.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(self, reader: SplitReader, own: tuple[str, ...], classes: tuple[str, ...]) -> None:
        """Takes a split.

        Args:
            reader: of its files.
            own: the classes that its labels stand for.
            classes: those of the run.

        Raises:
            UserError: a class that is not in `classes`.
        """
        self.classes = classes
        self._reader = reader
        self._names = tuple(unpack_json(reader.table["names"]))
        used = reader.table["used"].tolist()
        label = labels_by_name([own[value] for value in used], classes, reader.location)
        self._meaning = np.array([label.get(name, -1) for name in own], np.int32)

    def __len__(self) -> int:
        return len(self._reader)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels.

        Raises:
            UserError: the record is damaged.
        """
        picture = self._decoded(index, "image", cv2.IMREAD_COLOR)
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture).astype(np.uint8, copy=False)

    def _decoded(self, index: int, name: str, mode: int) -> UInt[np.ndarray, "h w *channels"]:
        """One of a record's pictures, channels as OpenCV orders them: BGR.

        Raises:
            UserError: the record is damaged, or holds no such picture.
        """
        picture = cv2.imdecode(self._reader.read(index)[name], mode)
        if picture is None:
            raise UserError(f"{self._reader.where(index)}: {name!r} is no picture: convert the data again")
        return picture


class RecordsDetection(_Records):
    """One split of converted images with boxes: a `DetectionSource`.

    Attributes:
        category_ids: the source's category id of each label, where it has them; a class that it does not know
            gets an id above all of its own.
    """

    category_ids: tuple[int, ...] | None

    def __init__(self, reader: SplitReader, own: tuple[str, ...], classes: tuple[str, ...]) -> None:
        super().__init__(reader, own, classes)
        self.category_ids = _category_ids(own, reader.category_ids, classes)
        table = reader.table
        self._annotations = Annotations(
            ids=table["ids"],
            names=self._names,
            sizes=table["sizes"],
            starts=table["starts"],
            boxes=table["boxes"].astype(np.float64),  # float32 in records of before
            labels=self._meaning[table["labels"]],
            ignore=table["ignore"],
            area=table["area"].astype(np.float64),
        )

    def record(self, index: int) -> DetectionRecord:
        """The boxes of one image, with its source's id and name."""
        return self._annotations.record(index)


class RecordsInstances(RecordsDetection):
    """One split of converted images with boxes and masks: an `InstanceSource`."""

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """Each box's object, in the record's order; all False where no shape is known.

        Raises:
            UserError: the record is damaged.
        """
        height, width = self._annotations.size(index)
        record = self._reader.read(index)
        runs, starts = record["runs"], record["run_starts"]
        masks = np.zeros((len(starts) - 1, height, width), bool)
        for i, (first, end) in enumerate(pairwise(starts.tolist())):
            masks[i] = decode_runs(runs[first:end], height, width)
        return masks

    def outlined(self, index: int) -> Bool[np.ndarray, " n"]:
        """Of each box, whether its mask is known, in the record's order.

        Raises:
            UserError: the record is damaged.
        """
        return np.diff(self._reader.read(index)["run_starts"]) > 1


class RecordsCocoInstances(RecordsInstances):
    """The same of a COCO file."""

    def segmentations(self, index: int) -> list[Any]:
        """Each box's object as COCO's own tools take it (`formats.coco.detection`), in the record's order.

        Raises:
            UserError: the record is damaged.
        """
        return unpack_json(self._reader.read(index)["segmentations"])


class RecordsClassification(_Records):
    """One split of converted, labeled images: a `ClassificationSource`."""

    def record(self, index: int) -> ClassificationRecord:
        """The label of one image, with its source's id and name."""
        table = self._reader.table
        label = self._meaning[table["labels"][index]]
        return ClassificationRecord(int(table["ids"][index]), self._names[index], int(label))


class RecordsSegmentation(_Records):
    """One split of converted images with label maps: a `SegmentationSource`."""

    def name(self, index: int) -> str:
        """The source's name of the image."""
        return self._names[index]

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """The label map: int32, 0..K-1, -1 where void.

        Raises:
            UserError: the record is damaged.
        """
        stored = self._decoded(index, "labels", cv2.IMREAD_UNCHANGED)
        table = np.full(np.iinfo(stored.dtype).max + 1, -1, np.int32)
        table[: len(self._meaning)] = self._meaning
        return table[stored]


_SOURCES = {
    "detection": RecordsDetection,
    "instances": RecordsInstances,
    "classification": RecordsClassification,
    "segmentation": RecordsSegmentation,
}


def open_records(root: Path, task: str, classes: tuple[str, ...] | None = None) -> tuple[Any, Any]:
    """Opens converted data.

    Args:
        root: the folder.
        task: detection, instances, classification or segmentation; instances also serve as detection.
        classes: the classes of a run; None takes the data's own.

    Returns:
        (training, evaluation), sources of that task.

    Raises:
        UserError: the folder holds another task, a class that the run has not, or files that are missing,
            damaged, altered or of another version.
    """
    contents = Contents.read(root)
    if contents.task != task and (contents.task, task) != ("instances", "detection"):
        raise UserError(
            f"{root / CONTENTS}: holds records for {contents.task}, not {task}: convert the data again with "
            f"--task {task}"
        )
    sources = {}
    for name, split in contents.splits.items():
        reader = SplitReader(root, split)
        of_coco = task == "instances" and len(reader) and "segmentations" in reader.read(0)
        kind = RecordsCocoInstances if of_coco else _SOURCES[task]
        sources[name] = kind(reader, contents.classes, classes or contents.classes)
    if "val" not in sources:
        remedy = "convert the data again with ?holdout=0.2 after the folder to keep a fifth back"
        report_single(str(root), "train", len(sources["train"]), remedy)
    return sources["train"], sources.get("val", sources["train"])


def _category_ids(
    own: Sequence[str], ids: Sequence[int] | None, classes: Sequence[str]
) -> tuple[int, ...] | None:
    """The source's id of each of the run's classes."""
    if ids is None:
        return None
    known = dict(zip(own, ids, strict=True))
    above = max(ids, default=0)
    return tuple(known.get(name, above + 1 + label) for label, name in enumerate(classes))
