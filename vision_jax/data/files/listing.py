"""What a folder holds, less what nobody put there as data.

Passed over, at any depth: hidden files and folders, whose names begin with a dot (`.ipynb_checkpoints` with
copies of images, `._x.xml` that macOS writes beside `x.xml`, `.DS_Store`), and what archivers, desktops and
network drives leave behind (`__MACOSX`, `@eaDir`, `Thumbs.db`, ...). Only names below a folder count: a data
set may itself lie in a hidden folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from vision_jax.types import UserError, is_system_name

_ABSOLUTE = re.compile(r"/|[A-Za-z]:/|file://|https?://")


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden or an operating system's, and so is no data."""
    return name.startswith(".") or is_system_name(name)


def entries(folder: Path) -> list[Path]:
    """The files and folders directly in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def folders(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted by name."""
    return [path for path in entries(folder) if path.is_dir()]


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and in the folders inside it, links followed, each folder once, in no order."""
    seen: set[str] = set()
    for parent, inside, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(parent))
        inside[:] = [
            name
            for name in inside
            if not is_hidden(name) and os.path.realpath(os.path.join(parent, name)) not in seen
        ]
        yield from (Path(parent, name) for name in names if not is_hidden(name))


def find(folder: Path, pattern: str) -> list[Path]:
    """What matches a glob pattern in a folder, sorted; no part of a match is hidden or a system's."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(is_hidden(part) for part in path.relative_to(folder).parts)
    )


def spellings(name: str) -> list[str]:
    """How a file's name may be meant: as it is, of Windows, percent-encoded, or an absolute path's last part.

    Args:
        name: of a file, as annotations state it: "a\\b.jpg", "my%20image.jpg", "C:\\data\\b.jpg".

    Returns:
        What to look for, the likeliest first, with "/" between folders.
    """
    found = [name, name.replace("\\", "/")]
    found += [unquote(text) for text in found]
    found += [text.rsplit("/", 1)[-1] for text in found if _ABSOLUTE.match(text)]
    return list(dict.fromkeys(text for text in found if text))


def shown_name(name: str, most: int = 200) -> str:
    """A file's name for a message: shortened, bytes that are no text written as escapes."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= most else f"{text[:most]}..."


def listed(words: Iterable[object], most: int = 12) -> str:
    """Words for a message, the first of them only where there are many: "a, b and 7 more"."""
    texts = [str(word) for word in words]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def locate(folder: Path, names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Finds files of a folder by the names that annotations give; one directory listing per subfolder.

    Args:
        folder: to which the names are relative.
        names: in any of the `spellings`.

    Returns:
        The names under which the files are there, or as given; and the positions of those that are not.
    """
    listings: dict[Path, set[str]] = {}

    def there(name: str) -> bool:
        path = folder / name
        if path.parent not in listings:
            try:
                listings[path.parent] = set(os.listdir(path.parent))
            except (OSError, ValueError):
                listings[path.parent] = set()
        return path.name in listings[path.parent]

    found = [next((spelling for spelling in spellings(name) if there(spelling)), None) for name in names]
    return (
        [name if known is None else known for name, known in zip(names, found, strict=True)],
        [index for index, known in enumerate(found) if known is None],
    )


def read_lines(path: Path, of_files: bool = False) -> list[str]:
    """The lines of a text file, without the spaces around them: UTF-8, or UTF-16 as Windows writes it.

    Args:
        path: the file.
        of_files: whether the lines name files, whose bytes may be any: those that are not UTF-8 then become
            lone surrogates, as `os.fsdecode` has them.

    Raises:
        UserError: the file cannot be read, or is in another encoding.
    """
    try:
        content = path.read_bytes()
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            text = content.decode("utf-16")
        else:
            text = content.decode("utf-8-sig", "surrogateescape" if of_files else "strict")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not in UTF-8 (byte {error.start}: {error.reason}): save it in UTF-8"
        ) from None
    return [line.strip() for line in text.splitlines()]
