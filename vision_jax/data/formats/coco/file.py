"""A json file of COCO instances (Lin et al. 2014), parsed and its fields checked, one by one.

Accepted as other programs write them: whole numbers with a decimal point (`640.0`), `iscrowd` and `ignore` as
0, 1, true, false or these as text, sizes and areas that are null or absent. Everything else that is not what
COCO's format says is a `UserError` that names the file, the entry and the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_jax.data.files.other_formats import describe_json
from vision_jax.types import UserError

_LARGEST_ID = 2**31 - 1
_LARGEST_SIDE = 2**31 - 1
_FLAGS = {
    "0": False,
    "1": True,
    "false": False,
    "true": True,
    "none": False,
    "": False,
    "0.0": False,
    "1.0": True,
}


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An entry of `images`.

    Attributes:
        id: 0 to 2^31 - 1.
        name: its `file_name`.
        size: (height, width) in pixels; None where the file does not give it.
    """

    id: int
    name: str
    size: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class CocoAnnotation:
    """An entry of `annotations`.

    Attributes:
        id: any; None where there is none.
        image: its `image_id`.
        category: its `category_id`.
        box: (x, y, width, height) in pixels, any numbers.
        area: in pixels squared; NaN where there is none that can be.
        ignore: whether it is a crowd (`iscrowd`) or marked `ignore`.
        segmentation: as the file has it, unchecked.
    """

    id: Any
    image: int
    category: int
    box: tuple[float, float, float, float]
    area: float
    ignore: bool
    segmentation: Any

    def __str__(self) -> str:
        return f"annotation {'(no id)' if self.id is None else self.id} of image {self.image}"


@dataclass(frozen=True)
class CocoFile:
    """A json file, parsed, its fields sound and its ids unique.

    Attributes:
        path: of the file.
        images, annotations: its entries, in order.
        categories: {id: name} in the order of the ids.
        parents: the names that categories have as their `supercategory`, by their ids.
    """

    path: Path
    images: Sequence[CocoImage]
    annotations: Sequence[CocoAnnotation]
    categories: dict[int, str]
    parents: Mapping[int, str]

    @classmethod
    def read(cls, path: Path) -> CocoFile:
        """Parses a file.

        Raises:
            UserError: no file, no json (with the line), another program's file, a missing table, a field that
                is missing or no such value as COCO's format has, ids that occur twice.
        """
        content = read_json(path)
        tables = {name: _table(content, name, path) for name in ("images", "annotations", "categories")}
        images = [_image(entry, path, i) for i, entry in enumerate(tables["images"])]
        _refuse_twice((image.id for image in images), path, "image")
        categories, parents = _categories(tables["categories"], path)
        annotations = [
            _annotation(entry, f"{path}: annotations[{i}]") for i, entry in enumerate(tables["annotations"])
        ]
        _refuse_twice((a.id for a in annotations if a.id is not None), path, "annotation")
        return cls(path, images, annotations, categories, parents)

    def root_category(self) -> int | None:
        """The id of a category that no annotation has and that is the `supercategory` of all others."""
        used = {annotation.category for annotation in self.annotations}
        for id, name in self.categories.items():
            others = [parent for other, parent in self.parents.items() if other != id]
            if others and id not in used and all(parent == name for parent in others):
                return id
        return None


def read_json(path: Path) -> Any:
    """What a json file holds.

    Raises:
        UserError: no such file, or no json: with line and column where they are known.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: malformed json: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a json file in UTF-8 ({error}): save it in UTF-8") from None
    except (ValueError, RecursionError, OSError) as error:
        raise UserError(f"{path}: not a json file: {error}") from None


def _table(content: Any, name: str, path: Path) -> list[dict[str, Any]]:
    table = content.get(name) if isinstance(content, dict) else None
    known = describe_json(content)
    if known is not None and (not isinstance(table, list) or name == "annotations"):
        raise UserError(f"{path}: this file is {known}")
    if not isinstance(table, list):
        raise UserError(f"{path}: no list {name!r}: this is not a COCO instances file")
    for position, entry in enumerate(table):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {name}[{position}] is {_shown(entry)}, not an object with fields")
    return table


def _image(entry: dict[str, Any], path: Path, position: int) -> CocoImage:
    where = f"{path}: images[{position}]"
    id = _whole(_field(entry, "id", where))
    if id is None or not 0 <= id <= _LARGEST_ID:
        raise UserError(
            f"{where}: id {_shown(entry['id'])} is no whole number from 0 to {_LARGEST_ID}: renumber the "
            "images"
        )
    name = _field(entry, "file_name", where)
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise UserError(f"{where} (id {id}): file_name {_shown(name)} is no name of a file")
    return CocoImage(id, name, _size(entry, f"{path}: image {id} ({name})"))


def _size(entry: dict[str, Any], where: str) -> tuple[int, int] | None:
    """(height, width); None where one of them is 0, null or absent."""
    given = [entry.get("height"), entry.get("width")]
    height, width = (_whole(value) for value in given)
    if None in given or 0 in (height, width):
        return None
    if height is None or width is None or not (0 < height <= _LARGEST_SIDE and 0 < width <= _LARGEST_SIDE):
        raise UserError(
            f"{where}: height {_shown(given[0])} and width {_shown(given[1])} are no size in pixels"
        )
    return height, width


def _categories(table: Sequence[dict[str, Any]], path: Path) -> tuple[dict[int, str], dict[int, str]]:
    names: dict[int, str] = {}
    parents: dict[int, str] = {}
    for position, entry in enumerate(table):
        where = f"{path}: categories[{position}]"
        id = _whole(_field(entry, "id", where))
        if id is None:
            raise UserError(
                f"{where}: id {_shown(entry['id'])} is no whole number: number the categories, and the "
                f"category_id of annotations alike"
            )
        name = _field(entry, "name", where)
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not _is_text(str(name)):
            raise UserError(f"{where} (id {id}): name {_shown(name)} is no name of a class: give it one")
        if id in names:
            raise UserError(f"{path}: category id {id} occurs twice: ids must be unique in a split")
        names[id] = str(name)
        parents[id] = str(entry.get("supercategory", ""))
    ids: dict[str, int] = {}
    for id, name in sorted(names.items()):
        if name in ids:
            raise UserError(f"{path}: categories {ids[name]} and {id} are both {name!r}: rename one")
        ids[name] = id
    return dict(sorted(names.items())), parents


def _is_text(name: str) -> bool:
    """Whether there is something that can be printed: json can hold halves of characters (surrogates)."""
    return bool(name.strip()) and not any("\ud800" <= character <= "\udfff" for character in name)


def _annotation(entry: dict[str, Any], where: str) -> CocoAnnotation:
    id = entry.get("id")
    where = f"{where} (id {_shown(id) if 'id' in entry else 'missing'})"
    if id is not None and not isinstance(id, str | int | float):
        raise UserError(f"{where}: id {_shown(id)} is no number")
    owner, category = (_reference(entry, name, where) for name in ("image_id", "category_id"))
    box = _field(entry, "bbox", where)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise UserError(f"{where}: bbox {_shown(box)} is not [x, y, width, height]")
    area = entry.get("area")
    if area is not None and not _is_number(area):
        raise UserError(f"{where}: area {_shown(area)} is no number of pixels")
    return CocoAnnotation(
        id,
        owner,
        category,
        (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        float(area) if area is not None and 0 <= area < math.inf else math.nan,
        _flag(entry, "iscrowd", where) or _flag(entry, "ignore", where),
        entry.get("segmentation"),
    )


def _field(entry: dict[str, Any], name: str, where: str) -> Any:
    if name not in entry:
        raise UserError(f"{where}: no field {name!r}")
    return entry[name]


def _reference(entry: dict[str, Any], name: str, where: str) -> int:
    """The id of an image or a category, to which an annotation belongs."""
    value = _field(entry, name, where)
    id = _whole(value)
    if id is None:
        kind = "text" if isinstance(value, str) else "no whole number"
        raise UserError(
            f"{where}: {name} {_shown(value)} is {kind}: write the id as a whole number, as "
            f"{'images' if name == 'image_id' else 'categories'} do"
        )
    return id


def _flag(entry: dict[str, Any], name: str, where: str) -> bool:
    """A field that is 0 or 1, however it is written; False where it is null or absent."""
    value = entry.get(name)
    if value is None or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    flag = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None
    if flag is None:
        raise UserError(f"{where}: {name} {_shown(value)} is neither 0 nor 1")
    return flag


def _refuse_twice(ids: Iterable[Any], path: Path, what: str) -> None:
    seen = set()
    for id in ids:
        if id in seen:
            raise UserError(f"{path}: {what} id {id} occurs twice: ids must be unique in a split")
        seen.add(id)


def _whole(value: Any) -> int | None:
    """A whole number, `2.0` too; None for everything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_number(value: Any) -> bool:
    """Whether a value is a number that float64 can hold, infinity and NaN among them."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1000
    return isinstance(value, float)


def _shown(value: Any, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
