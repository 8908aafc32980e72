"""Files that name the classes of label maps, and the colors in which some programs write them.

    classes.txt        a name a line, from index 0
    labelmap.txt       name:r,g,b:parts:actions   CVAT's and Datumaro's "Segmentation mask" and "PASCAL VOC"
    label_colors.txt   r g b name                 CamVid's own, and CVAT's "CamVid"

The first of them that is there counts. A line that begins with "#" is a comment in the last two. A class
without a color has VOC's of its line (`vision_jax.data.formats.voc.maps`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.files.listing import read_lines
from vision_jax.types import UserError

NAMES_OF_FILES = ("classes.txt", "labelmap.txt", "label_colors.txt")

_WITH_COLORS = re.compile(r"(\d+)\s+(\d+)\s+(\d+)\s+(.+)")
_VOID_COLOR = (224, 224, 192)  # of index 255 in VOC's map
_LARGEST_CLASS = 254


@dataclass(frozen=True)
class Listing:
    """Names of the indices of label maps.

    Attributes:
        path: of the file.
        names: of the indices, from 0.
        colors: uint8 [256, 3], of each index where the file gives colors: rows after the last class repeat
            the first, but for the last, VOC's color of void. None where the file gives none.
    """

    path: Path
    names: tuple[str, ...]
    colors: UInt8[np.ndarray, "256 3"] | None


def find_listing(root: Path, usual: UInt8[np.ndarray, "256 3"]) -> Listing | None:
    """Reads the file of a data set that names its classes.

    Args:
        root: of the data set.
        usual: colors of indices, for classes without one.

    Returns:
        What it says; None where there is no such file.

    Raises:
        UserError: a line that is not of its form, or two classes of one color.
    """
    path = next((root / name for name in NAMES_OF_FILES if (root / name).is_file()), None)
    if path is None:
        return None
    lines = read_lines(path)
    while lines and not lines[-1]:
        lines.pop()
    if path.name == "classes.txt":
        return Listing(path, tuple(lines), None)
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line and not line.startswith("#")]
    read = _of_labelmap if path.name == "labelmap.txt" else _of_label_colors
    entries = [read(line, f"{path}, line {number}") for number, line in numbered]
    if len(entries) > _LARGEST_CLASS + 1:
        raise UserError(
            f"{path}: names {len(entries)} classes; colors stand for at most {_LARGEST_CLASS + 1}"
        )
    colors = [tuple(usual[index].tolist()) if rgb is None else rgb for index, (_, rgb) in enumerate(entries)]
    for index, rgb in enumerate(colors):
        if rgb in colors[:index]:
            both = entries[colors.index(rgb)][0], entries[index][0]
            raise UserError(f"{path}: {both[0]!r} and {both[1]!r} have one color, {rgb}: give each its own")
    table = np.array([*colors, *(colors[:1] * (255 - len(colors))), _VOID_COLOR], np.uint8).reshape(-1, 3)
    return Listing(path, tuple(name for name, _ in entries), table if colors else None)


def _of_labelmap(line: str, where: str) -> tuple[str, tuple[int, int, int] | None]:
    """A class's name and its color, 0..255 each; None where the line gives none."""
    name, *rest = line.split(":")
    color = rest[0].strip() if rest else ""
    if not color:
        return name.strip(), None
    return name.strip(), _rgb(color.split(","), f"{where}: {line!r}: expected name:r,g,b:parts:actions")


def _of_label_colors(line: str, where: str) -> tuple[str, tuple[int, int, int]]:
    """A class's name and its color, 0..255 each."""
    match = _WITH_COLORS.fullmatch(line)
    complaint = f"{where}: {line!r}: expected r g b name"
    if match is None:
        raise UserError(complaint)
    return match[4].strip(), _rgb(match.groups()[:3], complaint)


def _rgb(parts: tuple[str, ...] | list[str], complaint: str) -> tuple[int, int, int]:
    """Three texts as a color, 0..255 each; else a `UserError` that begins with the complaint."""
    values = [int(part) for part in parts if part.strip().isdigit()]
    if len(values) != 3 or len(parts) != 3 or max(values) > 255:
        raise UserError(f"{complaint}, each of r, g and b a whole number from 0 to 255")
    return values[0], values[1], values[2]
