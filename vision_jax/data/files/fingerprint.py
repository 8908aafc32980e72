"""Whether a split is still what it was, told without reading its images."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import Any

import numpy as np


def fingerprint(source: Any) -> str | None:
    """Hexadecimal digits that differ when a split does.

    It is made of the classes, of the annotations that are in memory (`record`), and of the name, size and
    time of change of each of its files (`files`), in order. A file whose content was changed while its size
    and time were not is not noticed.

    Args:
        source: in random access. One that is made of files states them: `files() -> paths`.

    Returns:
        A sha256; None for a source that does not state its files.
    """
    files = getattr(source, "files", None)
    if files is None:
        return None
    digest = hashlib.sha256(f"{len(source)} {source.classes}\n".encode())
    for path in files():
        try:
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        except OSError as error:  # reading it will say more
            digest.update(f"{path} {error.errno}\n".encode(errors="surrogateescape"))
    if hasattr(source, "record"):
        for index in range(len(source)):
            record = source.record(index)
            for field in fields(record):
                value = getattr(record, field.name)
                array = isinstance(value, np.ndarray)
                digest.update(value.tobytes() if array else f"{value}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
