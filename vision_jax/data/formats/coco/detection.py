"""Detection data in COCO's json format (Lin et al. 2014, "Microsoft COCO: common objects in context").

One json file holds `images`, `annotations` and `categories` of a split. Boxes are `[x, y, width, height]` and
become (x1, y1, x2, y2); `iscrowd` and `ignore` become `ignore`; `area`, where given, is taken as it is.
Category ids may have gaps: labels are 0..K-1 in the order of the ids, `category_ids` leads back. Where the
run's classes are given, labels go by name instead.

The sizes in the json decide in which orientation an image is read: its EXIF rotation is applied unless
only the unturned picture has the size that the json gives (`vision_jax.data.codecs.images`). The size is
checked when the pixels are read; an image without a size in the json has its header read at opening.

Names of files are taken as they are, or with Windows' or percent-encoded characters read as such
(`vision_jax.data.files.listing`).

Errors (`UserError`), found at opening: missing or malformed files and fields
(`vision_jax.data.formats.coco.file`), image files that are not there, image or annotation ids that occur
twice, two categories of one name, an annotation of an unknown category, a class that the run has not,
annotations none of which belongs to an image of the file.

Counted, and reported once for the split: boxes of zero or negative size or outside their image (dropped) or
reaching over its border (clipped), or all in another unit than pixels (kept); annotations of unknown images
(dropped); polygons under 3 points and run lengths that do not fit their image (left out of the mask, the box
is kept); one file under two ids (kept); a category that no annotation has and that is the parent of all
others, as Roboflow writes it (kept). An image without annotations is kept: it is a negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int64, Num, UInt8

from vision_jax.data.annotations.boxes import Findings, ListedBoxes, collect, labels_by_name, warn_units
from vision_jax.data.codecs.images import read_image, read_size
from vision_jax.data.codecs.masks import Shapes, pack_runs, unpack_runs
from vision_jax.data.files.listing import locate, shown_name
from vision_jax.data.formats.coco.file import CocoAnnotation, CocoFile, CocoImage
from vision_jax.data.records import DetectionRecord
from vision_jax.types import UserError

_FARTHEST = 1e6  # pixels; a corner of a polygon beyond it is a mistake


class CocoDetection:
    """One split of a COCO data set: a `DetectionSource` that also has instance masks.

    Attributes:
        classes: class names, in label order.
        category_ids: the source's category id of each label; a class which the file does not know gets an
            id above all of the file's.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]

    def __init__(
        self,
        annotations: Path | CocoFile,
        images: Path,
        classes: tuple[str, ...] | None = None,
        only: Sequence[int] | None = None,
    ) -> None:
        """Opens a split; no pixels are read.

        Args:
            annotations: the json file, or what `CocoFile.read` made of it.
            images: the folder to which its file names are relative.
            classes: the classes of a run, to which labels are mapped by name; None takes the file's own.
            only: positions in the file's `images` to keep; None keeps all.

        Raises:
            UserError: see the module's text.
        """
        file = annotations if isinstance(annotations, CocoFile) else CocoFile.read(annotations)
        self._folder = images
        self._file = file.path
        self.classes = tuple(file.categories.values()) if classes is None else classes
        ids = {name: id for id, name in file.categories.items()}
        above = max(file.categories, default=0)
        self.category_ids = tuple(ids.get(name, above + 1 + label) for label, name in enumerate(self.classes))
        findings = Findings(str(file.path))
        kept_images = file.images if only is None else [file.images[i] for i in only]
        names, missing = locate(images, [image.name for image in kept_images])
        if missing:
            first = kept_images[missing[0]]
            raise UserError(
                f"{file.path}: {len(missing)} of its {len(names)} images are not in {images}; first: "
                f"file_name {shown_name(first.name)} (image id {first.id})"
            )
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            findings.add("image files listed under several ids, kept", twice[0], len(twice))
        root = file.root_category()
        if root is not None:
            kind = (
                "categories that no annotation has and that are the supercategory of all others, kept as "
                "classes that are never learned: Roboflow adds one, take it out of the file"
            )
            findings.add(kind, f"{file.categories[root]!r}, id {root}")

        rows = _belonging(file, kept_images, findings, alone=only is None)
        position = {image.id: i for i, image in enumerate(kept_images)}
        used = {file.categories[a.category] for a in rows}
        label = labels_by_name(used, self.classes, str(file.path))
        boxes = np.array([a.box for a in rows], np.float64).reshape(-1, 4)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        warn_units(corners, findings, lambda row: str(rows[row]))
        objects = ListedBoxes(
            image=np.array([position[a.image] for a in rows], np.int64),
            boxes=corners,
            labels=np.array([label[file.categories[a.category]] for a in rows], np.int32),
            ignore=np.array([a.ignore for a in rows], bool),
            area=np.array([a.area for a in rows], np.float64),
        )
        self._annotations, kept = collect(
            [image.id for image in kept_images],
            names,
            [image.size or read_size(images / name) for image, name in zip(kept_images, names, strict=True)],
            objects,
            findings,
            lambda row: str(rows[row]),
        )
        sizes = self._annotations.sizes[objects.image[kept]].tolist()
        shapes = [_shape(rows[row], size, findings) for row, size in zip(kept, sizes, strict=True)]
        self._shapes = Shapes.pack([pieces for pieces, _ in shapes], [runs for _, runs in shapes])
        findings.report()

    def __len__(self) -> int:
        return len(self._annotations)

    def files(self) -> list[Path]:
        """The json file, and every image."""
        return [self._file, *(self._folder / name for name in self._annotations.names)]

    def name(self, index: int) -> str:
        """The image's `file_name`, as the file is really called."""
        return self._annotations.names[index]

    def record(self, index: int) -> DetectionRecord:
        """The boxes of one image; its id is COCO's, its name the `file_name`."""
        return self._annotations.record(index)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels, in the size of the json.

        Raises:
            UserError: the file is unreadable, or its size is another.
        """
        return read_image(self._folder / self._annotations.names[index], self._annotations.size(index))

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """Each box's object, pixel by pixel, in the record's order; all False where no shape is known."""
        masks = [self.mask(index, number) for number in range(len(self.outlined(index)))]
        return np.stack(masks) if masks else np.zeros((0, *self._annotations.size(index)), bool)

    def mask(self, index: int, number: int) -> Bool[np.ndarray, "h w"]:
        """One of an image's `masks`."""
        first = int(self._annotations.starts[index])
        return self._shapes.mask(first + number, *self._annotations.size(index))

    def outlined(self, index: int) -> Bool[np.ndarray, " n"]:
        """Of each box, whether its object's shape is known, in the record's order."""
        first, end = self._annotations.starts[index : index + 2].tolist()
        return np.diff(self._shapes.starts[first : end + 1]) > 0

    def outlines(self) -> tuple[Int[np.ndarray, " boxes"], Bool[np.ndarray, " boxes"]]:
        """Of all boxes, one image after the other, the index of the image, and whether a shape is known."""
        images = np.repeat(np.arange(len(self)), np.diff(self._annotations.starts))
        return images, np.diff(self._shapes.starts) > 0

    def segmentations(self, index: int) -> list[list[list[float]] | dict[str, Any]]:
        """Each box's object as COCO's own tools take it, in the record's order.

        They rasterize polygons by a rule of their own (`vision_jax.data.codecs.masks`), and published figures
        are evaluated against their masks.

        Returns:
            For each box a list of polygons [x, y, x, y, ...], empty where no shape is known, or run lengths
            as {"size": [height, width], "counts": text}.
        """
        height, width = self._annotations.size(index)
        shapes = []
        for row in range(*self._annotations.starts[index : index + 2].tolist()):
            pieces = self._shapes.pieces(row)
            if self._shapes.runs[row]:
                shapes.append({"size": [height, width], "counts": pack_runs(pieces[0].astype(np.int64))})
            else:
                shapes.append([piece.tolist() for piece in pieces])
        return shapes


def merged_classes(files: Sequence[CocoFile]) -> tuple[str, ...]:
    """The first file's classes in the order of their ids, then those that only later files know."""
    return tuple(dict.fromkeys(name for file in files for name in file.categories.values()))


def _belonging(
    file: CocoFile, images: Sequence[CocoImage], findings: Findings, alone: bool
) -> list[CocoAnnotation]:
    """The annotations of some of a file's images."""
    everywhere = {image.id for image in file.images}
    here = {image.id for image in images}
    rows = []
    strangers = 0
    for position, annotation in enumerate(file.annotations):
        if annotation.image not in here:
            if annotation.image not in everywhere:
                strangers += 1
                findings.add("annotations of unknown images, dropped", str(annotation))
            continue
        if annotation.category not in file.categories:
            raise UserError(
                f"{file.path}: annotations[{position}] (id {annotation.id!r}): category_id "
                f"{annotation.category!r} is not among the file's categories"
            )
        rows.append(annotation)
    if strangers and strangers == len(file.annotations) and alone:
        raise UserError(
            f"{file.path}: none of its {strangers} annotations belongs to one of its {len(everywhere)} "
            f"images: are the image ids of one kind? First: {file.annotations[0]}"
        )
    return rows


def _shape(
    annotation: CocoAnnotation, size: Sequence[int], findings: Findings
) -> tuple[list[Num[np.ndarray, " _"]], bool]:
    """An annotation's polygons, or its run lengths and True; nothing where it has no usable shape."""
    shape = annotation.segmentation
    if not shape:
        return [], False
    if isinstance(shape, dict):
        runs = _runs(shape, size)
        if runs is None:
            findings.add("run lengths that do not fit their image, left out of masks", str(annotation))
            return [], False
        return [runs], True
    polygons = []
    for polygon in shape if isinstance(shape, list) and isinstance(shape[0], list) else [shape]:
        try:
            points = np.array(polygon, np.float64)
        except (TypeError, ValueError, OverflowError):
            points = np.empty(0)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not (np.abs(points) < _FARTHEST).all():
            findings.add("polygons under 3 points or malformed, left out of masks", str(annotation))
        else:
            polygons.append(points)
    return polygons, False


def _runs(shape: dict[str, Any], size: Sequence[int]) -> Int64[np.ndarray, " runs"] | None:
    """Run lengths of a shape in any of COCO's spellings; None where they do not fit (height, width)."""
    counts, pixels = shape.get("counts"), size[0] * size[1]
    try:
        runs = unpack_runs(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    fits = shape.get("size", list(size)) == list(size) and runs.ndim == 1
    # each at most the whole: their sum could overflow
    return runs if fits and ((runs >= 0) & (runs <= pixels)).all() and runs.sum() == pixels else None
