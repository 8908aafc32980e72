"""Files of records: a data set laid out for fast random access, in array_record (google/array_record).

    DIR/records.json                the task, the classes, and each split's files: `Contents`
    DIR/train.npz                   a table of what is small: ids, names, sizes, boxes, a checksum per record
    DIR/train-00000.array_record    what is large, a record per image: its encoded picture, masks, label map

The table is read when a split is opened, so that no record has to be; a record is read when it is asked for.

A record is named arrays (`vision_jax.types.packing`). Nothing in these files is code.

Checksums form a chain: `records.json` has the table's SHA-256, the table has each record's CRC-32. A shard's
length is compared at opening, a record when it is read. Whatever does not fit is a `UserError` that names the
file.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vision_jax.types import UserError, pack, unpack

CONTENTS = "records.json"
VERSION = 1

_AGAIN = "convert the data again (vision-jax convert-data)"
_SHARD_BYTES = 2**28
_CHECKS = "crc32"


@dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: its name.
        images: records in it.
        bytes: its length.
    """

    file: str
    images: int
    bytes: int


@dataclass(frozen=True)
class Split:
    """The files of a split.

    Attributes:
        table: the table's file name.
        sha256: of the table, in hexadecimal.
        shards: in the order of the images.
        category_ids: the source's category id of each class, where it has them.
    """

    table: str
    sha256: str
    shards: tuple[Shard, ...]
    category_ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Contents:
    """What `records.json` says.

    Attributes:
        task: the name of its task family.
        classes: class names, in label order.
        source: where the data come from, for people.
        splits: "train", and "val" where it is another.
    """

    task: str
    classes: tuple[str, ...]
    source: str
    splits: Mapping[str, Split]

    @classmethod
    def read(cls, root: Path) -> Contents:
        """Reads a folder's `records.json`.

        Raises:
            UserError: there is none, it is malformed, or of another version.
        """
        path = root / CONTENTS
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"{path}: no such file: {root} is no folder of records") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: malformed json ({error}): {_AGAIN}") from None
        version = content.get("version") if isinstance(content, dict) else None
        if version != VERSION:
            raise UserError(f"{path}: version {version!r} of the format, only {VERSION} is read: {_AGAIN}")
        try:
            splits = {name: _split(split) for name, split in content["splits"].items()}
            found = cls(content["task"], tuple(content["classes"]), str(content["source"]), splits)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: a field is missing or malformed ({error}): {_AGAIN}") from None
        files = [name for split in splits.values() for name in (split.table, *(s.file for s in split.shards))]
        if (
            not isinstance(found.task, str)
            or not splits.keys() <= {"train", "val"}
            or "train" not in splits
            or any(not isinstance(name, str) for name in found.classes)
            or any(Path(file).name != file for file in files)
        ):
            raise UserError(f"{path}: its task, classes, splits or file names make no sense: {_AGAIN}")
        return found

    def write(self, root: Path) -> None:
        """Writes `records.json`: last, since a folder without it does not open."""
        text = json.dumps({"version": VERSION, **asdict(self)}, indent=1)
        (root / CONTENTS).write_text(text + "\n")


def _split(entry: Mapping[str, Any]) -> Split:
    shards = tuple(Shard(str(s["file"]), int(s["images"]), int(s["bytes"])) for s in entry["shards"])
    ids = entry["category_ids"]
    return Split(str(entry["table"]), str(entry["sha256"]), shards, None if ids is None else tuple(ids))


class SplitWriter:
    """Writes the files of one split, record by record."""

    def __init__(self, root: Path, name: str, shard_bytes: int = _SHARD_BYTES) -> None:
        """Opens nothing yet.

        Args:
            root: an existing folder.
            name: of the split; files are named after it.
            shard_bytes: a shard is closed when its records have come to so many bytes.
        """
        self._root = root
        self._name = name
        self._shard_bytes = shard_bytes
        self._writer: Any = None
        self._images = self._bytes = 0
        self._shards: list[Shard] = []
        self._checks: list[int] = []

    def add(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Appends the next image's record.

        Raises:
            UserError: it cannot be written.
        """
        record = pack(arrays)
        self._checks.append(zlib.crc32(record))
        try:
            if self._writer is None:
                # array_record is not built for every system: it is imported when records are written or read.
                from array_record.python.array_record_module import ArrayRecordWriter

                # one record a group: a random access then reads no other
                self._writer = ArrayRecordWriter(str(self._path()), "group_size:1")
            self._writer.write(record)
        except RuntimeError as error:
            raise UserError(f"cannot write {self._path()}: {error}") from error
        self._images += 1
        self._bytes += len(record)
        if self._bytes >= self._shard_bytes:
            self._end_shard()

    def end(self, table: Mapping[str, np.ndarray], category_ids: tuple[int, ...] | None) -> Split:
        """Closes the last shard and writes the table.

        Args:
            table: named arrays, none of them of Python objects.
            category_ids: of the classes, where the source has them.

        Returns:
            What `records.json` says of the split.

        Raises:
            UserError: they cannot be written.
        """
        if self._writer is not None:
            self._end_shard()
        file = io.BytesIO()
        np.savez_compressed(file, **{**table, _CHECKS: np.array(self._checks, np.uint32)})
        content = file.getvalue()
        (self._root / f"{self._name}.npz").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return Split(f"{self._name}.npz", digest, tuple(self._shards), category_ids)

    def _path(self) -> Path:
        return self._root / f"{self._name}-{len(self._shards):05d}.array_record"

    def _end_shard(self) -> None:
        path = self._path()
        try:
            self._writer.close()
        except RuntimeError as error:
            raise UserError(f"cannot write {path}: {error}") from error
        self._shards.append(Shard(path.name, self._images, path.stat().st_size))
        self._writer = None
        self._images = self._bytes = 0


class SplitReader:
    """The table and the records of one split; can be pickled, files are opened when first read.

    Attributes:
        table: named arrays.
        location: the table's file, for messages.
        category_ids: of the classes, where the source had them.
    """

    table: dict[str, np.ndarray]
    location: str
    category_ids: tuple[int, ...] | None

    def __init__(self, root: Path, split: Split) -> None:
        """Reads the table, and compares the shards' lengths.

        Args:
            root: the folder.
            split: from its `Contents`.

        Raises:
            UserError: a file is missing, or is not as it was written.
        """
        self.location = str(root / split.table)
        self.category_ids = split.category_ids
        content = _content(root / split.table)
        if hashlib.sha256(content).hexdigest() != split.sha256:
            raise UserError(f"{root / split.table}: altered since it was written: {_AGAIN}")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            self.table = dict(arrays)
        self._paths = [root / shard.file for shard in split.shards]
        for path, shard in zip(self._paths, split.shards, strict=True):
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                raise UserError(f"{path}: no such file, {root / CONTENTS} lists it: {_AGAIN}")
            if size != shard.bytes:
                raise UserError(f"{path}: has {size} bytes where {shard.bytes} were written: {_AGAIN}")
        self._ends = np.cumsum([0, *(shard.images for shard in split.shards)])[1:]
        if int(self._ends[-1:].sum()) != len(self):
            raise UserError(
                f"{root / CONTENTS}: its shards' images are not the table's {len(self)}: {_AGAIN}"
            )
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        slices = [f"{path}[0:{s.images}]" for path, s in zip(self._paths, split.shards, strict=True)]
        self._records = ArrayRecordDataSource(slices) if slices else []

    def __len__(self) -> int:
        return len(self.table[_CHECKS])

    def files(self) -> list[Path]:
        """The table, and every shard."""
        return [Path(self.location), *self._paths]

    def read(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of one image's record, read-only.

        Raises:
            UserError: the record is not what was written.
        """
        try:
            record = self._records[index]
            if zlib.crc32(record) == self.table[_CHECKS][index]:
                return unpack(record)
            reason = "its checksum is another"
        except (RuntimeError, OSError) as error:
            reason = str(error)
        raise UserError(f"{self.where(index)}: damaged or altered ({reason}): {_AGAIN}")

    def where(self, index: int) -> str:
        """A record's shard and its position in it, for messages."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        first = int(self._ends[shard - 1]) if shard else 0
        return f"{self._paths[shard]}, record {index - first}"


def pack_json(value: Any) -> UInt8[np.ndarray, " bytes"]:
    """Json as an array; texts that are no Unicode, as file names may be, come back as they were."""
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), np.uint8)


def unpack_json(content: UInt8[np.ndarray, " bytes"]) -> Any:
    """What `pack_json` packed."""
    return json.loads(content.tobytes())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: {_AGAIN}") from None
