"""Shards of cached features: complete and as they were written, or written anew.

    train-00000.array_record    a record an example: arrays by name (`vision_jax.types.packing`)
    train-00000.json            what it was made from and its SHA-256: `ShardRecord`

The record is written when its shard is final. A shard is trusted only where its record can be read, was made
from the same things, and has the shard's SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.training.files import storage_errors, write_atomically
from vision_jax.types import UserError, pack, unpack


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a complete shard.

    Attributes:
        key: digests of what all shards of a cache depend on, by name: `program`, `weights`, ...
        inputs: a sha256 of the batches that it was computed from.
        source: the data's fingerprint when they were last compared with `inputs`; None where they give none.
        batches: (group, examples) of each of these batches. Examples of one group have the same shapes.
        sha256: of the shard.
    """

    key: dict[str, str]
    inputs: str
    source: str | None
    batches: list[tuple[str, int]]
    sha256: str

    @property
    def examples(self) -> int:
        """Records in the shard."""
        return sum(count for _, count in self.batches)


@dataclass(frozen=True)
class ShardFile:
    """One shard of a split, written or not.

    Attributes:
        folder: of the cache.
        split: `train` or `val`.
        number: of the shard, from 0.
    """

    folder: Path
    split: str
    number: int

    @property
    def path(self) -> Path:
        return self.folder / f"{self.split}-{self.number:05d}.array_record"

    @property
    def record_path(self) -> Path:
        return self.path.with_suffix(".json")

    def read_record(self) -> ShardRecord | None:
        """The record; None where the shard has none yet.

        Raises:
            ValueError: it is damaged.
        """
        try:
            content = json.loads(self.record_path.read_bytes())
            digest = content.pop("record")
            if digest != _digest(content):
                raise ValueError("its own hash does not match")
            content["batches"] = [(str(group), int(count)) for group, count in content["batches"]]
            return ShardRecord(**content)
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error

    def write_record(self, record: ShardRecord) -> None:
        """Makes the shard one that is trusted."""
        content = asdict(record)
        write_atomically(self.record_path, json.dumps({**content, "record": _digest(content)}) + "\n")

    def fault(self, record: ShardRecord) -> str | None:
        """What is wrong with the shard, as words for a message; None if it is as it was written."""
        try:
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"it cannot be read ({error.strerror or error})"
        return None if digest == record.sha256 else "it is not as it was written"

    def write(self, examples: Iterable[Mapping[str, np.ndarray]]) -> str:
        """Writes the shard so that it is complete or absent.

        Args:
            examples: each one's arrays.

        Returns:
            Its SHA-256.

        Raises:
            UserError: the disk is full or read-only.
        """
        from array_record.python.array_record_module import ArrayRecordWriter

        temporary = self.path.with_name(f".{self.path.name}.tmp")
        with storage_errors(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.record_path.unlink(missing_ok=True)
            try:
                # one record a group: a random access then reads no other
                writer: Any = ArrayRecordWriter(str(temporary), "group_size:1")
                for arrays in examples:
                    writer.write(pack(arrays))
                writer.close()
            except RuntimeError as error:  # the package's word for errors of storage
                raise UserError(f"cannot write {self.path}: {error}") from error
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            temporary.replace(self.path)
        return digest


def remove_shards(folder: Path, split: str, start: int) -> None:
    """Deletes the shards of a split from number `start` on, and remains of killed processes."""
    for path in folder.glob(f"{split}-*.json"):
        if int(path.stem.rpartition("-")[2]) >= start:
            path.unlink()
            path.with_suffix(".array_record").unlink(missing_ok=True)
    for path in folder.glob(f".{split}-*.tmp"):
        path.unlink()


class ShardReader:
    """The examples of complete shards in random access; files are opened when first read.

    Attributes:
        groups: of each example.
    """

    groups: list[str]

    def __init__(self, shards: Sequence[ShardFile], records: Sequence[ShardRecord]) -> None:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        kept = [(s, r) for s, r in zip(shards, records, strict=True) if r.examples]
        self.groups = [group for _, record in kept for group, count in record.batches for _ in range(count)]
        self._shards = [shard for shard, _ in kept]
        self._ends = np.cumsum([record.examples for _, record in kept])
        slices = [f"{shard.path}[0:{record.examples}]" for shard, record in kept]
        self._source = ArrayRecordDataSource(slices) if slices else []

    def __len__(self) -> int:
        return len(self.groups)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """An example's arrays, read-only.

        Raises:
            UserError: the shard was damaged after it was opened.
        """
        try:
            return unpack(self._source[int(index)])
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            shard = self._shards[int(np.searchsorted(self._ends, index, side="right"))]
            raise UserError(f"{shard.path} is damaged ({error}); --resume makes it anew") from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
