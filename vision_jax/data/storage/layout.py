"""How the examples of a task family are laid out in records, and what the sources of all families share.

Of every family: in the table `names` (a json list as bytes) and `used` (the labels that occur); in a record
`image`, a JPEG or PNG file. The rest each family states beside its code (`vision_jax.data.families`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Shaped, UInt, UInt8

from vision_jax.data.annotations.boxes import labels_by_name
from vision_jax.data.storage.encoding import Encoding
from vision_jax.data.storage.files import SplitReader, unpack_json
from vision_jax.types import UserError

# The arrays of a record, and its row of the table.
Record = tuple[dict[str, np.ndarray], dict[str, Any]]


@dataclass(frozen=True)
class RecordLayout:
    """How the examples of a task family are laid out in records.

    Records keep their source's order, ids and names; annotations are exactly those of the source, or of its
    pictures made smaller.

    Attributes:
        record: (source, index, encoding) -> a record, and its row with `names`, the image's name.
        table: (rows, in order) -> the table's columns by name, besides `names`.
        open: (reader, classes that the labels stand for, classes of the run) -> a source of the family.
        tasks: the families whose records it opens; its own first.
    """

    record: Callable[[Any, int, Encoding], Record]
    table: Callable[[Sequence[Mapping[str, Any]]], dict[str, np.ndarray]]
    open: Callable[[SplitReader, tuple[str, ...], tuple[str, ...]], Any]
    tasks: tuple[str, ...]


def joined(
    rows: Sequence[Mapping[str, Any]], name: str, dtype: type, *width: int
) -> Shaped[np.ndarray, "n *width"]:
    """A column of all rows after one another, [n, *width], empty where there is no row."""
    return np.concatenate([np.zeros((0, *width), dtype), *(row[name] for row in rows)]).astype(dtype)


class StoredSplit:
    """What the sources of all families have in common.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(self, reader: SplitReader, own: tuple[str, ...], classes: tuple[str, ...]) -> None:
        """Takes a split.

        Args:
            reader: of its files.
            own: the classes that its labels stand for.
            classes: those of the run; labels go to them by name.

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

    def files(self) -> list[Path]:
        """The table, and every shard."""
        return self._reader.files()

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
