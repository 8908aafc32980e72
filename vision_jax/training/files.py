"""Writing to a disk that may be full, and to files that a killed process must not leave half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vision_jax.types import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that at any moment it is the complete old one or the complete new one.

    Args:
        path: in an existing folder; `.NAME.tmp` beside it is written first.
        content: text (UTF-8) or bytes.

    Raises:
        OSError: the old file is then unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns a full disk, a read-only folder and other storage errors into a message for users.

    Args:
        path: what is being written.

    Raises:
        UserError: naming the path and the system's reason.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {error.filename or path}: {error.strerror or error}") from error
