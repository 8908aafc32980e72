"""Detection data in COCO's json format (Lin et al. 2014, "Microsoft COCO: common objects in context").

One json file holds `images`, `annotations` and `categories` of a split. Boxes are `[x, y, width, height]`
and become (x1, y1, x2, y2); `iscrowd` becomes `ignore`; `area`, where given, is taken as it is. Category ids
may have gaps: labels are 0..K-1 in the order of the ids, `category_ids` leads back. Where the run's classes
are given, labels go by name instead.

The sizes in the json decide in which orientation a photograph is read: its EXIF rotation is applied unless
only the unturned picture has the size that the json gives (`vision_jax.data.images`). The size is checked
when the pixels are read; an image without a size in the json has its header read at opening.

Errors (`UserError`), found at opening: missing or malformed files and fields, image files that are not
there, image or annotation ids that occur twice, two categories of one name, an annotation of an unknown
category, a class that the run has not, annotations none of which belongs to an image of the file.

Counted, and reported once for the split: boxes of zero or negative size or outside their image (dropped) or
reaching over its border (clipped); annotations of unknown images (dropped); polygons under 3 points and run
lengths that do not fit their image (left out of the mask, the box stays); one file under two ids (kept). An
image without annotations is kept: it is a negative.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from vision_jax.data.annotations import Findings, Objects, collect, labels_by_name, missing_files
from vision_jax.data.images import read_image, read_size
from vision_jax.data.masks import Shapes, pack_runs, unpack_runs
from vision_jax.types import DetectionRecord, UserError

_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class CocoFile:
    """A json file, parsed, with its tables present and its ids unique.

    Attributes:
        path: of the file.
        images, annotations: its records, as they are.
        categories: {id: name} in the order of the ids.
    """

    path: Path
    images: Sequence[dict[str, Any]]
    annotations: Sequence[dict[str, Any]]
    categories: dict[int, str]

    @classmethod
    def read(cls, path: Path) -> CocoFile:
        """Parses a file.

        Raises:
            UserError: no file, no json (with the line), a missing table or field, ids that occur twice.
        """
        content = _read_json(path)
        tables = {}
        for name in ("images", "annotations", "categories"):
            table = content.get(name) if isinstance(content, dict) else None
            if not isinstance(table, list) or not all(isinstance(entry, dict) for entry in table):
                raise UserError(f"{path}: no list {name!r}: this is not a COCO instances file")
            tables[name] = table
        for position, image in enumerate(tables["images"]):
            _require(image, ("id", "file_name"), f"{path}: images[{position}]")
            if not _is_int(image["id"]) or not 0 <= image["id"] <= _LARGEST_ID:
                raise UserError(
                    f"{path}: images[{position}]: id {image['id']!r} is no whole number from 0 to "
                    f"{_LARGEST_ID}: renumber the images"
                )
        for position, category in enumerate(tables["categories"]):
            _require(category, ("id", "name"), f"{path}: categories[{position}]")
        _refuse_twice((image["id"] for image in tables["images"]), path, "image")
        _refuse_twice((a["id"] for a in tables["annotations"] if "id" in a), path, "annotation")
        _refuse_twice((category["id"] for category in tables["categories"]), path, "category")
        categories = {c["id"]: str(c["name"]) for c in sorted(tables["categories"], key=lambda c: c["id"])}
        ids: dict[str, int] = {}
        for id, name in categories.items():
            if name in ids:
                raise UserError(f"{path}: categories {ids[name]} and {id} are both {name!r}: rename one")
            ids[name] = id
        return cls(path, tables["images"], tables["annotations"], categories)


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
        self.classes = tuple(file.categories.values()) if classes is None else classes
        ids = {name: id for id, name in file.categories.items()}
        above = max(file.categories, default=0)
        self.category_ids = tuple(ids.get(name, above + 1 + label) for label, name in enumerate(self.classes))
        findings = Findings(str(file.path))
        kept_images = file.images if only is None else [file.images[i] for i in only]
        names = [str(image["file_name"]) for image in kept_images]
        missing = missing_files(images, names)
        if missing:
            first = kept_images[missing[0]]
            raise UserError(
                f"{file.path}: {len(missing)} of its {len(names)} images are not in {images}; first: "
                f"{first['file_name']} (image id {first['id']})"
            )
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            findings.add("image files listed under several ids, kept", twice[0], len(twice))

        rows = _belonging(file, kept_images, findings, alone=only is None)
        position = {image["id"]: i for i, image in enumerate(kept_images)}
        used = {file.categories[a["category_id"]] for a in rows}
        label = labels_by_name(used, self.classes, str(file.path))
        boxes = np.array([a["bbox"] for a in rows], np.float64).reshape(-1, 4)
        objects = Objects(
            image=np.array([position[a["image_id"]] for a in rows], np.int64),
            boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            labels=np.array([label[file.categories[a["category_id"]]] for a in rows], np.int32),
            ignore=np.array([bool(a.get("iscrowd", 0)) for a in rows], bool),
            area=np.array([_area(a) for a in rows], np.float64),
        )
        self._annotations, kept = collect(
            [image["id"] for image in kept_images],
            names,
            [_size(image, images, file.path) for image in kept_images],
            objects,
            findings,
            lambda row: _describe(rows[row]),
        )
        sizes = self._annotations.sizes[objects.image[kept]].tolist()
        shapes = [_shape(rows[row], size, findings) for row, size in zip(kept, sizes, strict=True)]
        self._shapes = Shapes.pack([pieces for pieces, _ in shapes], [runs for _, runs in shapes])
        findings.report()

    def __len__(self) -> int:
        return len(self._annotations)

    def name(self, index: int) -> str:
        """The image's `file_name`."""
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

        They draw polygons by a rule of their own (`vision_jax.data.masks`), and published figures are judged
        against what they draw.

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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: malformed json: {error.msg}"
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not a json file: {error}") from None


def _require(entry: dict[str, Any], names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in entry:
            raise UserError(f"{where}: no field {name!r}")


def _refuse_twice(ids: Iterable[Any], path: Path, what: str) -> None:
    seen = set()
    for id in ids:
        if id in seen:
            raise UserError(f"{path}: {what} id {id} occurs twice: ids must be unique in a split")
        seen.add(id)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _describe(annotation: dict[str, Any]) -> str:
    return f"annotation {annotation.get('id', '(no id)')} of image {annotation.get('image_id')}"


def _belonging(
    file: CocoFile, images: Sequence[dict[str, Any]], findings: Findings, alone: bool
) -> list[dict[str, Any]]:
    """The annotations of some of a file's images, their fields present and sound."""
    everywhere = {image["id"] for image in file.images}
    here = {image["id"] for image in images}
    rows = []
    strangers = 0
    for position, annotation in enumerate(file.annotations):
        where = f"{file.path}: annotations[{position}] (id {annotation.get('id', 'missing')})"
        _require(annotation, ("image_id", "category_id", "bbox"), where)
        if annotation["image_id"] not in here:
            if annotation["image_id"] not in everywhere:
                strangers += 1
                findings.add("annotations of unknown images, dropped", _describe(annotation))
            continue
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
            raise UserError(f"{where}: bbox {box!r} is not [x, y, width, height]")
        if annotation["category_id"] not in file.categories:
            raise UserError(
                f"{where}: category {annotation['category_id']!r} is not among the file's categories"
            )
        rows.append(annotation)
    if strangers and strangers == len(file.annotations) and alone:
        raise UserError(
            f"{file.path}: none of its {strangers} annotations belongs to one of its {len(everywhere)} "
            f"images: are the image ids of one kind? First: {_describe(file.annotations[0])}"
        )
    return rows


def _size(image: dict[str, Any], folder: Path, path: Path) -> tuple[int, int]:
    """The (height, width) that the json gives; the file's, where it gives none."""
    height, width = image.get("height"), image.get("width")
    if not height or not width:
        return read_size(folder / image["file_name"])
    if not (_is_int(height) and _is_int(width) and height > 0 and width > 0):
        raise UserError(
            f"{path}: image {image['id']} ({image['file_name']}): height {height!r} and width "
            f"{width!r} are no size in pixels"
        )
    return height, width


def _area(annotation: dict[str, Any]) -> float:
    area = annotation.get("area")
    return float(area) if isinstance(area, int | float) and area >= 0 else math.nan


def _shape(
    annotation: dict[str, Any], size: Sequence[int], findings: Findings
) -> tuple[list[np.ndarray], bool]:
    """An annotation's polygons, or its run lengths and True; nothing where it has no usable shape."""
    shape = annotation.get("segmentation")
    if not shape:
        return [], False
    if isinstance(shape, dict):
        runs = _runs(shape, size)
        if runs is None:
            findings.add("run lengths that do not fit their image, left out of masks", _describe(annotation))
            return [], False
        return [runs], True
    polygons = []
    for polygon in shape if isinstance(shape, list) and isinstance(shape[0], list) else [shape]:
        try:
            points = np.array(polygon, np.float64)
        except (TypeError, ValueError):
            points = np.empty(0)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            findings.add("polygons under 3 points or malformed, left out of masks", _describe(annotation))
        else:
            polygons.append(points)
    return polygons, False


def _runs(shape: dict[str, Any], size: Sequence[int]) -> np.ndarray | None:
    counts = shape.get("counts")
    try:
        runs = unpack_runs(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    except (TypeError, ValueError):
        return None
    fits = list(shape.get("size", size)) == list(size) and runs.ndim == 1
    return runs if fits and (runs >= 0).all() and runs.sum() == size[0] * size[1] else None
