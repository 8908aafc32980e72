"""Boxes of a whole split in flat arrays, checked once: what the COCO and VOC readers have in common.

What is wrong with single boxes does not stop a run: the box is clipped or dropped, counted, and each split
reports once, as one warning of the logger "vision_jax", with the first case of each kind. What makes labels
or images doubtful (unknown classes, missing files, two records with one id) is a `UserError` at opening.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int

from vision_jax.data.files.listing import listed, shown_name
from vision_jax.data.records import DetectionRecord
from vision_jax.types import UserError

_ROUNDING = 0.01  # pixels; files round coordinates to two decimals
_NORMALIZED = 1.001  # the largest normalized coordinate, rounded


@dataclass
class Findings:
    """What was odd in one split, counted by kind; `report` says it once.

    Attributes:
        where: the file or folder that the counts are about.
    """

    where: str
    _counts: dict[str, int] = field(default_factory=dict)
    _first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, case: str, count: int = 1) -> None:
        """Counts cases of a kind.

        Args:
            kind: what happened and what was done about it: "boxes of zero or negative size, dropped".
            case: names the record; only the first is kept.
            count: how many cases.
        """
        self._counts[kind] = self._counts.get(kind, 0) + count
        self._first.setdefault(kind, shown_name(case))

    def report(self) -> None:
        """Logs one warning with all counts; nothing where there are none."""
        if self._counts:
            lines = [f"\n  {n} {kind} (first: {self._first[kind]})" for kind, n in self._counts.items()]
            logging.getLogger("vision_jax").warning("%s:%s", self.where, "".join(lines))


@dataclass(frozen=True)
class Annotations:
    """The images of a split and their boxes, image after image.

    Attributes:
        ids: int64 [images].
        names: file names as people know them.
        sizes: int32 [images, 2], (height, width).
        starts: int64 [images + 1]; the boxes of image i are starts[i]:starts[i + 1].
        boxes, labels, ignore, area: of all boxes, as in `DetectionRecord`.
    """

    ids: Int[np.ndarray, " images"]
    names: tuple[str, ...]
    sizes: Int[np.ndarray, "images 2"]
    starts: Int[np.ndarray, " images+1"]
    boxes: Float64[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    ignore: Bool[np.ndarray, " n"]
    area: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image."""
        height, width = self.sizes[index].tolist()
        return height, width

    def record(self, index: int) -> DetectionRecord:
        """One image's boxes, in arrays of their own."""
        height, width = self.size(index)
        rows = slice(self.starts[index], self.starts[index + 1])
        return DetectionRecord(
            id=int(self.ids[index]),
            name=self.names[index],
            height=height,
            width=width,
            boxes=self.boxes[rows].copy(),
            labels=self.labels[rows].copy(),
            ignore=self.ignore[rows].copy(),
            area=self.area[rows].copy(),
        )


@dataclass(frozen=True)
class ListedBoxes:
    """Boxes as a file lists them, before any check.

    Attributes:
        image: int64 [n], each box's image, as its position in the split.
        boxes: float64 [n, 4], (x1, y1, x2, y2), x2 and y2 exclusive.
        labels, ignore: int32 [n], bool [n].
        area: float64 [n]; NaN where the file has none.
    """

    image: Int[np.ndarray, " n"]
    boxes: Float64[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    ignore: Bool[np.ndarray, " n"]
    area: Float64[np.ndarray, " n"]


def collect(
    ids: Sequence[int],
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    objects: ListedBoxes,
    findings: Findings,
    describe: Callable[[int], str],
) -> tuple[Annotations, Int[np.ndarray, " kept"]]:
    """Clips boxes to their images, drops the empty ones and orders the rest by image.

    Args:
        ids, names, sizes: of the images of the split; sizes as (height, width).
        objects: the boxes, in any order.
        findings: takes the counts of clipped and dropped boxes.
        describe: (row of `objects`) -> the record's name for people.

    Returns:
        The annotations, and the rows of `objects` that they hold, in their order.
    """
    extent = np.array(sizes, np.int32).reshape(-1, 2)
    boxes = objects.boxes
    limits = extent[objects.image][:, [1, 0]].astype(np.float64)
    clipped = np.concatenate([np.clip(boxes[:, :2], 0, limits), np.clip(boxes[:, 2:], 0, limits)], axis=1)
    finite = np.isfinite(boxes).all(1)
    sized = finite & (boxes[:, 2:] > boxes[:, :2]).all(1)
    inside = sized & (clipped[:, 2:] > clipped[:, :2]).all(1)
    in_batches = clipped.astype(np.float32)
    sized &= ~inside | (in_batches[:, 2:] > in_batches[:, :2]).all(1)
    inside &= sized
    with np.errstate(invalid="ignore"):
        moved = inside & (np.abs(clipped - boxes) > _ROUNDING).any(1)
    for rows, kind in (
        (~finite, "boxes with coordinates that are not finite, dropped"),
        (finite & ~sized, "boxes of zero or negative size, dropped"),
        (sized & ~inside, "boxes outside their image, dropped"),
        (moved, "boxes reaching over their image's border, clipped"),
    ):
        if rows.any():
            first = int(np.flatnonzero(rows)[0])
            findings.add(kind, f"{describe(first)}: {_box_text(boxes[first])}", int(rows.sum()))

    kept = np.flatnonzero(inside)
    kept = kept[np.argsort(objects.image[kept], kind="stable")]
    boxes = clipped[kept]
    area = objects.area[kept]
    own_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    counts = np.bincount(objects.image[kept], minlength=len(names))
    annotations = Annotations(
        ids=np.array(ids, np.int64),
        names=tuple(names),
        sizes=extent,
        starts=np.concatenate([[0], np.cumsum(counts)]),
        boxes=boxes,
        labels=objects.labels[kept].astype(np.int32),
        ignore=objects.ignore[kept].astype(bool),
        area=np.where(np.isnan(area), own_area, area),
    )
    return annotations, kept


def warn_units(boxes: Float64[np.ndarray, "n 4"], findings: Findings, describe: Callable[[int], str]) -> None:
    """Reports boxes that are hardly in pixels: all of a split within 0..1, or all under a pixel.

    Args:
        boxes: (x1, y1, x2, y2) of a whole split as its files state them, before any shift or clipping.
        findings: takes the report.
        describe: (row of `boxes`) -> the record's name for people.
    """
    if not len(boxes) or not np.isfinite(boxes).all():
        return
    first = f"{describe(0)}: {_box_text(boxes[0])}"
    sides = boxes[:, 2:] - boxes[:, :2]
    if boxes.min() >= 0 and boxes.max() <= _NORMALIZED and not (sides == 1).all():
        kind = (
            "boxes, all that there are, lie within 0..1 and so cover at most a pixel: they look normalized; "
            "multiply them by the width and height of their images"
        )
        findings.add(kind, first, len(boxes))
    elif ((sides > 0) & (sides < 1)).all():
        kind = (
            "boxes, all that there are, are under a pixel wide and high: is their width and height "
            "normalized, or in another unit? Boxes are in pixels of their images"
        )
        findings.add(kind, first, len(boxes))


def _box_text(box: Float64[np.ndarray, "4"]) -> str:
    """A box for messages, with what each number is."""
    return "x1 {:g}, y1 {:g}, x2 {:g}, y2 {:g}".format(*box)


def labels_by_name(names: Iterable[str], classes: tuple[str, ...], where: str) -> dict[str, int]:
    """Where each class name of a source stands in `classes`.

    Args:
        names: class names that the source's labels use.
        classes: the classes of the run, in label order.
        where: the file or folder, for the message.

    Returns:
        {name: label}.

    Raises:
        UserError: there are names that `classes` has not.
    """
    position = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(names) - position.keys())
    if unknown:
        raise UserError(
            f"{where}: {listed(map(repr, unknown))}: no class of this run, which knows "
            f"{listed(map(repr, classes))}; "
            f"rename or remove these labels, or train on data that has them"
        )
    return {name: position[name] for name in names}
