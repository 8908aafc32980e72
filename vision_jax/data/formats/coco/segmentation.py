"""Semantic segmentation from COCO's instances (Lin et al. 2014), painted as label maps.

Class 0 is "background": what no object covers. The categories follow in the order in which detection has
them; a category that is itself called "background" is class 0. Where objects cover each other, that of the
smaller mask, in pixels, lies on top; of two of one size, the one that the file lists later.

Void (-1), wherever no object lies on top, are the regions of which it is not known what each pixel is: crowds
(`iscrowd`), whose outlines are rough, and the boxes of objects that have no usable outline, which are counted
and reported once for the split. An object whose box is dropped in detection is not painted.

Errors (`UserError`), at opening, besides those of `vision_jax.data.formats.coco.detection`: boxes, but not
one outline; a run that has no class "background".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from vision_jax.data.annotations.boxes import Findings, labels_by_name
from vision_jax.data.formats.coco.detection import CocoDetection, merged_classes
from vision_jax.data.formats.coco.file import CocoFile
from vision_jax.types import UserError

BACKGROUND = "background"


class CocoSegmentation:
    """One split of a COCO data set with a label for each pixel: a `SegmentationSource`.

    Maps are painted as they are asked for.

    Attributes:
        classes: class names, in label order.
        objects: what the maps are painted from.
    """

    classes: tuple[str, ...]
    objects: CocoDetection

    def __init__(
        self,
        file: CocoFile,
        images: Path,
        classes: tuple[str, ...],
        only: Sequence[int] | None = None,
    ) -> None:
        """Opens a split; no pixels are read.

        Args:
            file: of the annotations.
            images: the folder to which its file names are relative.
            classes: those of `semantic_classes`, or of a run, to which labels are mapped by name.
            only: positions in the file's `images` to keep; None keeps all.

        Raises:
            UserError: see the module's text.
        """
        self.classes = classes
        self._ground = labels_by_name([BACKGROUND], classes, str(file.path))[BACKGROUND]
        self.objects = CocoDetection(file, images, classes, only)
        image_of_box, outlined = self.objects.outlines()
        if len(outlined) and not outlined.any():
            raise UserError(
                f"{file.path}: none of its {len(outlined)} boxes has a usable outline (segmentation): label "
                f"maps cannot be painted from boxes"
            )
        findings = Findings(str(file.path))
        if not outlined.all():
            lacking = image_of_box[~outlined]
            kind = "boxes without a usable outline, void in label maps"
            findings.add(kind, self.name(int(lacking[0])), len(lacking))
        findings.report()

    def __len__(self) -> int:
        return len(self.objects)

    def files(self) -> list[Path]:
        """The json file, and every image."""
        return self.objects.files()

    def name(self, index: int) -> str:
        """The image's `file_name`."""
        return self.objects.name(index)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels, in the size of the json.

        Raises:
            UserError: the file is unreadable, or its size is another.
        """
        return self.objects.image(index)

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """The label map: int32, 0..K-1, -1 where void."""
        record, outlined = self.objects.record(index), self.objects.outlined(index)
        ground = np.full((record.height, record.width), self._ground, np.int32)
        for x1, y1, x2, y2 in record.boxes[~outlined].tolist():
            ground[floor(y1) : ceil(y2), floor(x1) : ceil(x2)] = -1
        known = np.flatnonzero(outlined)
        masks = (self.objects.mask(index, number) for number in known.tolist())
        return paint(ground, masks, np.where(record.ignore, -1, record.labels)[known].tolist())


def semantic_classes(files: Sequence[CocoFile]) -> tuple[str, ...]:
    """Background, and the categories of all files in the order of detection."""
    return (BACKGROUND, *(name for name in merged_classes(files) if name != BACKGROUND))


def paint(
    ground: Int[np.ndarray, "h w"], masks: Iterable[Bool[np.ndarray, "h w"]], labels: Iterable[int]
) -> Int[np.ndarray, "h w"]:
    """Paints objects on a label map, the smaller ones on top.

    Args:
        ground: int32, what is seen where there is no object.
        masks: one at a time, in any order; of two of one size the later lies on top.
        labels: of each; -1 makes its pixels void where no mask of another label lies, however small it is.

    Returns:
        int32, a map of its own.
    """
    painted = ground.copy()
    size_seen = np.full(ground.shape, ground.size + 2, np.int32)
    for mask, label in zip(masks, labels, strict=True):
        rows = np.flatnonzero(mask.any(1))
        if not len(rows):
            continue
        part = slice(rows[0], rows[-1] + 1)
        size = np.count_nonzero(mask[part]) if label >= 0 else ground.size + 1
        on_top = mask[part] & (size <= size_seen[part])
        painted[part][on_top] = label
        size_seen[part][on_top] = size
    return painted
