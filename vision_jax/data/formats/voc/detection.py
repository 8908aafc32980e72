"""Detection data in the Pascal VOC format (Everingham et al. 2010, and the VOC2012 development kit).

    DIR/JPEGImages/NAME.jpg   DIR/Annotations/NAME.xml   DIR/ImageSets/Main/{train,val,trainval,test}.txt

Coordinates in the files are 1-based and inclusive: a box of xmin = xmax = 1 is the first pixel. They become
(xmin - 1, ymin - 1, xmax, ymax). `difficult` objects become `ignore`; boxes of an object's parts are passed
over. An object's area is its box's. The classes are those of all listed splits together, sorted by name, so
that they do not depend on which split trains; where the run's classes are given, labels go by name. Which
split trains and which is evaluated on: `vision_jax.data.formats.voc.lists`. Without lists, all images are one
split.

The `<size>` decides in which orientation an image is read, and is checked when its pixels are read
(`vision_jax.data.codecs.images`); where it is absent or 0, the image's header is read at opening.

Errors (`UserError`), found at opening: no such folder, a malformed file (`vision_jax.data.formats.voc.file`),
a listed or annotated image that is not there, a name listed twice, two images of one name, no object in any
file, a class that the run has not.

Counted, and reported once for the split: boxes of zero or negative size or outside their image (dropped) or
reaching over its border (clipped), or all in another unit than pixels; images without an annotation file
(kept: they are negatives).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.annotations.boxes import Findings, ListedBoxes, collect, labels_by_name, warn_units
from vision_jax.data.codecs.images import read_image, read_size
from vision_jax.data.files.listing import entries
from vision_jax.data.formats.voc.file import VocFile, refuse_without_objects
from vision_jax.data.formats.voc.lists import Lists, folder_of
from vision_jax.data.records import DetectionRecord
from vision_jax.types import UserError

Source = TypeVar("Source", bound="VocDetection")


class VocDetection:
    """One split of a VOC data set: a `DetectionSource`; a record's id is its position in the split.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(
        self,
        images: Sequence[Path],
        annotations: Sequence[VocFile | None],
        classes: tuple[str, ...],
        where: str,
    ) -> None:
        """Takes a split's images and what `VocFile.read` made of their annotations.

        Args:
            images: the image files.
            annotations: of each image; None where it has no file.
            classes: class names in label order.
            where: the split, for messages.

        Raises:
            UserError: a class that is not in `classes`.
        """
        self.classes = classes
        self._images = tuple(images)
        findings = Findings(where)
        sizes, image, number, names, boxes, difficult = [], [], [], [], [], []
        for position, (path, file) in enumerate(zip(images, annotations, strict=True)):
            if file is None:
                findings.add("images without an annotation file, kept as negatives", path.name)
                sizes.append(read_size(path))
                continue
            sizes.append(file.size or read_size(path))
            image += [position] * len(file.names)
            number += range(1, len(file.names) + 1)
            names += file.names
            boxes += file.boxes
            difficult += file.difficult

        def describe(row: int) -> str:
            return f"{images[image[row]].stem}.xml, object {number[row]} ({names[row]})"

        label = labels_by_name(set(names), classes, where)
        corners = np.array(boxes, np.float64).reshape(-1, 4)
        warn_units(corners, findings, describe)
        objects = ListedBoxes(
            image=np.array(image, np.int64),
            boxes=corners - np.array([1, 1, 0, 0]),
            labels=np.array([label[name] for name in names], np.int32),
            ignore=np.array(difficult, bool),
            area=np.full(len(names), math.nan),
        )
        self._annotations, kept = collect(
            range(len(images)),
            [path.name for path in images],
            sizes,
            objects,
            findings,
            describe,
        )
        self._numbers = np.array(number, np.int32)[kept]
        findings.report()

    def __len__(self) -> int:
        return len(self._annotations)

    def files(self) -> list[Path]:
        """Every image; annotation files are in the records."""
        return list(self._images)

    def record(self, index: int) -> DetectionRecord:
        """The boxes of one image."""
        return self._annotations.record(index)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels, in the size of the annotation.

        Raises:
            UserError: the file is unreadable, or its size is another.
        """
        return read_image(self._images[index], self._annotations.size(index))

    def numbers(self, index: int) -> Int[np.ndarray, " n"]:
        """Each box's position among the objects of its annotation file, from 1: dropped boxes leave gaps."""
        return self._numbers[slice(*self._annotations.starts[index : index + 2].tolist())].copy()


def open_voc(
    root: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    holdout: float = 0.0,
) -> tuple[VocDetection, VocDetection]:
    """Opens a VOC data set.

    Args:
        root: the folder with `Annotations` and `JPEGImages` (or `images`, or the images beside each other).
        classes: the classes of a run; None gathers them from all splits.
        train, val: names of lists in ImageSets/Main, where `train` and `val` are not what is wanted.
        holdout: with one split only, the fraction of images kept back for evaluation; 0 uses all for both.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    return open_annotated(root, "Main", lambda _, *parts: VocDetection(*parts), classes, train, val, holdout)


def open_annotated(
    root: Path,
    folder: str,
    make: Callable[[Sequence[str], Sequence[Path], Sequence[VocFile | None], tuple[str, ...], str], Source],
    classes: tuple[str, ...] | None,
    train: str | None,
    val: str | None,
    holdout: float,
    unlisted: Callable[[str], bool] = lambda name: True,
) -> tuple[Source, Source]:
    """Opens the splits that a folder of lists names, with their annotation files.

    Args:
        root: of the data set.
        folder: of the lists, in ImageSets.
        make: (names, images, annotations, classes, where) -> a split.
        classes, train, val, holdout: as for `open_voc`.
        unlisted: which names make up the one split, where there are no lists.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    files = _annotation_files(root)
    lists = Lists.read(root, folder, files, train, val, unlisted)
    parsed = {name: VocFile.read(files[name]) if name in files else None for name in lists.names()}
    if classes is None:
        refuse_without_objects(list(parsed.values()), root)
        classes = tuple(sorted({name for file in parsed.values() if file for name in file.names}))

    def split(names: Sequence[str], images: Sequence[Path], where: str) -> Source:
        return make(names, images, [parsed[name] for name in names], classes, where)

    return lists.open(split, holdout)


def _annotation_files(root: Path) -> dict[str, Path]:
    """The XML files of a data set by name, at least one."""
    folder = folder_of(root, "Annotations", "this is not a VOC data set")
    files = {path.stem: path for path in entries(folder) if path.suffix.lower() == ".xml"}
    if not files:
        raise UserError(f"{folder}: no annotation files (.xml)")
    return files
