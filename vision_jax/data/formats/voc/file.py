"""An annotation file in the Pascal VOC format (Everingham et al. 2010): XML, parsed and checked.

The encoding is what the file's first line declares, those with several bytes a character (gb2312, gbk, big5,
shift_jis, euc-kr, ...) included; UTF-8 or UTF-16 otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from vision_jax.types import UserError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LARGEST_SIDE = 2**31 - 1
_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}  # what files declared so really hold
_TRUE = ("1", "true", "yes", "1.0")
_FALSE = ("", "0", "false", "no", "0.0", "none", "unspecified")


@dataclass(frozen=True)
class VocFile:
    """One annotation file.

    Attributes:
        size: (height, width), None where the file has none.
        names: class name of each object.
        boxes: (xmin, ymin, xmax, ymax) of each object, as in the file.
        difficult: of each object.
    """

    size: tuple[int, int] | None
    names: tuple[str, ...]
    boxes: tuple[tuple[float, ...], ...]
    difficult: tuple[bool, ...]

    @classmethod
    def read(cls, path: Path) -> VocFile:
        """Parses a file.

        Raises:
            UserError: malformed XML, an encoding that is unknown or not the file's, objects elsewhere than
                directly in the root, an object without name or box, `difficult` that is neither 0 nor 1.
        """
        root = _parse(path)
        items = root.findall("object")
        if not items:
            _refuse_elsewhere(root, path)
        names, boxes, difficult = [], [], []
        for number, item in enumerate(items, start=1):
            name = (item.findtext("name") or "").strip()
            if not name:
                raise UserError(f"{path}: object {number} has no name")
            boxes.append(_box(item, f"{path}: object {number} ({name})"))
            flag = (item.findtext("difficult") or "").strip()
            if flag.lower() not in (*_TRUE, *_FALSE):
                raise UserError(f"{path}: object {number} ({name}): difficult {flag!r} is neither 0 nor 1")
            names.append(name)
            difficult.append(flag.lower() in _TRUE)
        return cls(_declared_size(root, path), tuple(names), tuple(boxes), tuple(difficult))


def refuse_without_objects(files: Sequence[VocFile | None], root: Path) -> None:
    """Refuses a data set in which there is no class.

    Raises:
        UserError: none of the files has an object.
    """
    if not any(file and file.names for file in files):
        raise UserError(
            f"{root}: none of its {len(files)} annotation files has an <object>: there is no class"
        )


def _box(item: ElementTree.Element, where: str) -> tuple[float, ...]:
    box = []
    for corner in _CORNERS:
        text = item.findtext(f"bndbox/{corner}")
        try:
            box.append(float(text or ""))
        except ValueError:
            found = "missing" if text is None else repr(text[:80])
            raise UserError(
                f"{where}: bndbox needs the numbers {', '.join(_CORNERS)}, but {corner} is {found}"
            ) from None
    return tuple(box)


def _parse(path: Path) -> ElementTree.Element:
    """The root of an XML file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    declared = _DECLARATION.match(content)
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        line, column = error.position
        hint = (
            ""
            if declared or _is_utf8(content)
            else (": the file is not in UTF-8, and declares no encoding: save it in UTF-8")
        )
        if declared and declared[1].lower() in (b"utf-8", b"utf8") and not _is_utf8(content):
            hint = ": it declares UTF-8, but is in another encoding: correct the first line, or save it anew"
        raise UserError(f"{path}, line {line}, column {column}: malformed XML: {error}{hint}") from None
    except (ValueError, LookupError) as error:
        if declared is None:
            raise UserError(f"{path}: malformed XML: {error}") from None
    # Expat reads no encoding of several bytes a character; Python does.
    encoding = declared[1].decode().lower()
    try:
        text = content[declared.end() :].decode(_WIDER.get(encoding, encoding))
        return ElementTree.fromstring(text)
    except LookupError:
        raise UserError(
            f"{path}: declares the encoding {encoding!r}, which is unknown: save it in UTF-8"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: declares the encoding {encoding!r}, but is not in it ({error.reason} at byte "
            f"{declared.end() + error.start}): save it in UTF-8"
        ) from None
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: malformed XML: {error}") from None


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8" if content[:2] not in (b"\xff\xfe", b"\xfe\xff") else "utf-16")
    except UnicodeDecodeError:
        return False
    return True


def _refuse_elsewhere(root: ElementTree.Element, path: Path) -> None:
    """Refuses a file whose objects, if it has any, are not where VOC has them."""
    parents = {child: parent for parent in root.iter() for child in parent}
    astray = next((element for element in root.iter() if _local(element) == "object"), None)
    if astray is not None and astray is not root:
        if parents[astray] is not root:
            location = f"in <{_local(parents[astray])}>"
        else:
            location = "in an XML namespace" if "}" in astray.tag else f"written <{astray.tag}>"
        raise UserError(
            f"{path}: its objects are {location}: VOC has each <object> directly in <annotation>, without a "
            f"namespace"
        )
    if _local(root) != "annotation":
        raise UserError(
            f"{path}: its root is <{_local(root)}>, where VOC has <annotation>: this is no VOC annotation"
        )


def _local(element: ElementTree.Element) -> str:
    """An element's tag in lower case, without namespace; empty for comments."""
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _declared_size(root: ElementTree.Element, path: Path) -> tuple[int, int] | None:
    try:
        height, width = (int(float(root.findtext(f"size/{side}") or "0")) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    if max(height, width) > _LARGEST_SIDE:
        raise UserError(f"{path}: size {width}x{height} (width x height) is no size in pixels")
    return (height, width) if height > 0 and width > 0 else None
