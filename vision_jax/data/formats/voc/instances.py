"""Instance masks in the Pascal VOC format (VOC2012 development kit, section 2.2: "segmentation").

    DIR/SegmentationObject/NAME.png   DIR/ImageSets/Segmentation/{train,val,trainval,test}.txt
    and DIR/JPEGImages, DIR/Annotations as in `vision_jax.data.formats.voc.detection`

A palette (or gray) PNG gives each pixel the number of its object (`vision_jax.data.formats.voc.maps`): 0 is
the background, 255 the void border between objects and around them, which belongs to none. The objects' boxes
and classes are those of the annotation files; a box's area is its mask's, where it has one. Without lists,
the images that have a PNG are one split.

Objects are numbered as the annotation files list them. This is checked when a split is opened, for which its
PNGs are read once: an object belongs to the box that has the highest IoU with its own tight box, its number
counting for a quarter; one whose IoU with every free box is under a tenth has none.

Errors (`UserError`), found at opening, besides those of `vision_jax.data.formats.voc.detection`: no folder
SegmentationObject, a listed image without a PNG, a PNG that is unreadable or has not its image's size.

Counted, and reported once for the split: objects whose number is not their box's position (matched by IoU),
objects without a box (left out), boxes without an object (kept without a mask).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from vision_jax.data.annotations.boxes import Findings
from vision_jax.data.annotations.palette import PALETTE
from vision_jax.data.codecs.images import read_indices
from vision_jax.data.formats.voc.detection import VocDetection, open_annotated
from vision_jax.data.formats.voc.file import VocFile
from vision_jax.data.formats.voc.maps import find_maps, maps_of
from vision_jax.types import UserError

FOLDER = "SegmentationObject"
VOID = 255

_MIN_IOU = 0.1
_NUMBER_COUNTS = 0.25


class VocInstances(VocDetection):
    """One split of a VOC data set with object maps: an `InstanceSource`."""

    def __init__(
        self,
        images: Sequence[Path],
        annotations: Sequence[VocFile | None],
        maps: Sequence[Path],
        classes: tuple[str, ...],
        where: str,
    ) -> None:
        """Takes a split's files, and finds out which number each box has in its image's map.

        Args:
            images: the image files.
            annotations: of each image; None where it has no file.
            maps: the object map of each image.
            classes: class names in label order.
            where: the split, for messages.

        Raises:
            UserError: a class that is not in `classes`, a map that is unreadable or of another size.
        """
        super().__init__(images, annotations, classes, where)
        self._maps = tuple(maps)
        findings = Findings(where)
        values, area = [], self._annotations.area.copy()
        for index, start in enumerate(self._annotations.starts[:-1].tolist()):
            stored = self._map(index)
            boxes, numbers = self._annotations.record(index).boxes, self.numbers(index)
            sizes, tight = _objects(stored)
            of_box = match(tight, np.flatnonzero(sizes), boxes, numbers)
            _find(findings, self._maps[index].name, np.flatnonzero(sizes), of_box, numbers)
            known = np.flatnonzero(of_box >= 0)
            area[start + known] = sizes[of_box[known]]
            values.append(of_box)
        self._values = np.concatenate([np.zeros(0, np.int32), *values])
        self._annotations = replace(self._annotations, area=area)
        findings.report()

    def files(self) -> list[Path]:
        """Every image, and every object map."""
        return [*super().files(), *self._maps]

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """Each box's object, void left out, in the record's order; all False where it has none."""
        values = self._values[slice(*self._annotations.starts[index : index + 2].tolist())]
        return self._map(index)[None] == values[:, None, None]

    def outlined(self, index: int) -> Bool[np.ndarray, " n"]:
        """Of each box, whether it has an object in the map, in the record's order."""
        return self._values[slice(*self._annotations.starts[index : index + 2].tolist())] >= 0

    def _map(self, index: int) -> Int[np.ndarray, "h w"]:
        """An image's object map, int32: 0 background, 255 void, else the number of an object.

        Raises:
            UserError: it is unreadable, or of another size than its image.
        """
        stored, (height, width) = read_indices(self._maps[index], PALETTE), self._annotations.size(index)
        if stored.shape != (height, width):
            raise UserError(
                f"{self._maps[index]}: the object map is {stored.shape[1]}x{stored.shape[0]} (width x "
                f"height), but its image is {width}x{height}: restore the map that was made for it"
            )
        return stored


def _objects(
    stored: Int[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, " values"], Float[np.ndarray, "objects 4"]]:
    """Each value's pixels, none for background and void; the tight boxes of those that have any."""
    sizes = np.bincount(stored.ravel(), minlength=VOID + 1)
    sizes[[0, VOID]] = 0
    tight = []
    for value in np.flatnonzero(sizes):
        rows, columns = np.flatnonzero((stored == value).any(1)), np.flatnonzero((stored == value).any(0))
        tight.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return sizes, np.array(tight, np.float32).reshape(-1, 4)


def match(
    tight: Num[np.ndarray, "m 4"],
    values: Int[np.ndarray, " m"],
    boxes: Num[np.ndarray, "n 4"],
    numbers: Int[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """Finds each box's object, the best agreeing pair first; none is taken twice.

    Args:
        tight: boxes of the objects' masks.
        values: the objects' numbers in the map.
        boxes: of the annotation.
        numbers: the positions of the boxes in the annotation file.

    Returns:
        int32, the value in the map that each box's object has; -1 where it has none.
    """
    tight, boxes = tight.astype(np.float64), boxes.astype(np.float64)
    low = np.maximum(tight[:, None, :2], boxes[None, :, :2])
    high = np.minimum(tight[:, None, 2:], boxes[None, :, 2:])
    common = np.maximum(high - low, 0).prod(-1)
    areas, own_areas = (np.maximum(b[:, 2:] - b[:, :2], 0).prod(-1) for b in (boxes, tight))
    iou = common / (own_areas[:, None] + areas - common)
    agreement = np.where(iou < _MIN_IOU, -1.0, iou + _NUMBER_COUNTS * (values[:, None] == numbers))
    of_box = np.full(len(boxes), -1, np.int32)
    while agreement.size and agreement.max() >= 0:
        row, column = np.unravel_index(agreement.argmax(), agreement.shape)
        of_box[column] = values[row]
        agreement[row], agreement[:, column] = -1, -1
    return of_box


def _find(
    findings: Findings,
    name: str,
    values: Int[np.ndarray, " m"],
    of_box: Int[np.ndarray, " n"],
    numbers: Int[np.ndarray, " n"],
) -> None:
    """Counts the boxes without an object, objects without a box and other numbers of an image.

    Args:
        findings: takes the counts.
        name: of the map's file.
        values: of the objects in the map.
        of_box: what `match` found.
        numbers: the positions of the boxes in the annotation file, from 1.
    """
    for value, number in zip(of_box.tolist(), numbers.tolist(), strict=True):
        if value < 0:
            findings.add("boxes without an object in the map, kept without a mask", f"{name}, box {number}")
        elif value != number:
            findings.add(
                "objects numbered otherwise than in the annotation, matched by IoU",
                f"{name}, object {value} is box {number}",
            )
    for value in np.setdiff1d(values, of_box).tolist():
        findings.add("objects of the map without a box, left out", f"{name}, object {value}")


def open_voc_instances(
    root: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    holdout: float = 0.0,
) -> tuple[VocInstances, VocInstances]:
    """Opens a VOC data set with object maps.

    Args:
        root: the folder, as for `open_voc`, with `SegmentationObject`.
        classes: the classes of a run; None gathers them from all splits.
        train, val: names of lists in ImageSets/Segmentation, where `train` and `val` are not what is wanted.
        holdout: with one split only, the fraction of images kept back for evaluation; 0 uses all for both.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    maps = find_maps(root, FOLDER, "object map", "this VOC data set has boxes but no masks")

    def split(
        names: Sequence[str],
        images: Sequence[Path],
        annotations: Sequence[VocFile | None],
        classes: tuple[str, ...],
        where: str,
    ) -> VocInstances:
        found = maps_of(names, maps, root / FOLDER, "object map", where)
        return VocInstances(images, annotations, found, classes, where)

    return open_annotated(
        root, "Segmentation", split, classes, train, val, holdout, lambda name: name in maps
    )
