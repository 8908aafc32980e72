"""What the data decide about a model and its batches (classes, canvas, weights of classes), as one value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable


@runtime_checkable
class DataSpec(Protocol):
    """What the data decide, as one frozen value that can be hashed.

    A run records it when its data are first opened; evaluation, prediction and a resumed run read the record.
    """

    def to_json(self, folder: Path) -> dict[str, Any]:
        """JSON-serializable. A large part becomes a file of its own in `folder`, named with its sha256."""
        ...

    @classmethod
    def from_json(cls, content: Mapping[str, Any], folder: Path) -> Self:
        """The spec of which `to_json` gave `content`.

        Raises:
            UserError: a file in `folder` is missing or not the one that was written.
        """
        ...

    def fingerprint(self) -> str:
        """Hexadecimal digits that differ wherever two specs do."""
        ...

    def describe(self) -> str:
        """What the log says of the data, in part of a line: "3 classes, canvas 512 x 384"."""
        ...


class JsonSpec:
    """What is the same for the `DataSpec` of any dataclass of numbers, strings and tuples of them."""

    def to_json(self, folder: Path) -> dict[str, Any]:
        """The fields by name; writes no file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, content: Mapping[str, Any], folder: Path) -> Self:
        """The spec of which `to_json` gave `content`, lists read as tuples."""
        return cls(**{name: _tuples(value) for name, value in content.items()})

    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of a sha256 of the fields."""
        return fingerprint_of(self.to_json(Path()))


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the sha256 of JSON-serializable content, whatever the order of names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _tuples(value: Any) -> Any:
    """A JSON value with lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
