"""The format of a file by its first bytes, and which files are an operating system's own.

Files are not always what their names say: a git-lfs pointer that was never fetched, a login page saved under
an image's name, an archive that was not unpacked. A reader that has failed names the format with this.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

HEAD = 1024  # bytes that are read

_SYSTEM_NAMES = {".ds_store", ".localized", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini"}
_SYSTEM_FOLDERS = {
    *("__macosx", ".ipynb_checkpoints", ".spotlight-v100", ".trashes", ".fseventsd", ".git"),
    *("__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
}
_SYSTEM_BEGINNINGS = ("._", ".nfs", ".fuse_hidden", ".smbdelete", "~$", ".#", ".~lock.")


def is_system_name(name: str) -> bool:
    """Whether a file or a folder of that name belongs to an operating system, a network drive or an editor.

    Args:
        name: without the folders above it.
    """
    lower = name.lower()
    return lower in _SYSTEM_NAMES | _SYSTEM_FOLDERS or lower.startswith(_SYSTEM_BEGINNINGS)


@dataclass(frozen=True)
class FileKind:
    """The format of a file, as words for a message.

    Attributes:
        what: continues "it is".
        remedy: what to do about it; None where that depends on what was expected.
    """

    what: str
    remedy: str | None = None


_PAGE = (
    "a site sends one instead of a file to ask for a login or to say that there is none; download it again"
)
_UNPACK = "unpack it and give the file that is inside"
_LFS = "run `git lfs pull` in its repository, or download the file itself"

# (offset, bytes at that offset, the format)
_MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"PK\x03\x04", FileKind("a zip archive", _UNPACK)),
    (0, b"\x1f\x8b", FileKind("packed with gzip", _UNPACK)),
    (0, b"BZh", FileKind("packed with bzip2", _UNPACK)),
    (0, b"\xfd7zXZ\0", FileKind("packed with xz", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", FileKind("packed with Zstandard", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", FileKind("a RAR archive", _UNPACK)),
    (257, b"ustar", FileKind("a tar archive", _UNPACK)),
    (
        0,
        b"\0\x05\x16\x07",
        FileKind("macOS's notes on a file (AppleDouble)", "give the file of that name without the `._`"),
    ),
    (0, b"\x89HDF\r\n\x1a\n", FileKind("HDF5, as Keras writes it")),
    (4, b"TFL3", FileKind("a TensorFlow Lite model")),
    (0, b"GGUF", FileKind("a GGUF model")),
    (0, b"\x93NUMPY", FileKind("a numpy array (.npy)")),
    (0, b"%PDF", FileKind("a PDF document")),
    (0, b"\xff\xd8\xff", FileKind("a JPEG image")),
    (0, b"\x89PNG\r\n\x1a\n", FileKind("a PNG image")),
    (0, b"GIF8", FileKind("a GIF image")),
    (8, b"WEBP", FileKind("a WebP image")),
    (0, b"\x7fELF", FileKind("a program of Linux")),
)


def file_kind(path: Path) -> FileKind | None:
    """The format of a file that a reader could not read.

    Args:
        path: of the file.

    Returns:
        By the first bytes, or by the name where the format has no magic number; None if it is not known.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    if head[:4] == b"PK\x03\x04":
        return _zip_kind(path)
    return content_kind(head, size) or _protocol_buffer(path, head)


def content_kind(head: bytes, size: int) -> FileKind | None:
    """The format of a file by its first bytes alone.

    Args:
        head: the first `HEAD` bytes, or all.
        size: bytes of the whole file.

    Returns:
        The format; None if it is not known.
    """
    if size == 0:
        return FileKind("an empty file", "download or copy it again")
    if not head.strip(b"\0"):
        return FileKind(
            f"zeros alone in its first {len(head)} bytes", "it was not copied whole: download it again"
        )
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return _text_kind(head, size)


def _zip_kind(path: Path) -> FileKind | None:
    """The format of a zip file by the names of its members; None for torch's own."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return FileKind("a zip archive whose end is missing or damaged", "download it again")
    if names and all(name.endswith(".npy") for name in names):
        return FileKind("an archive of numpy arrays (.npz)")
    if "model.weights.h5" in names:
        return FileKind("a Keras model")
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        return None  # torch's own
    if not names:
        return FileKind("an empty zip archive")
    shown = ", ".join(name[:60] for name in names[:3])
    return FileKind(f"a zip archive of {shown}{', ...' if len(names) > 3 else ''}", _UNPACK)


def _text_kind(head: bytes, size: int) -> FileKind | None:
    """The format of a text file by its first bytes; None if they are not text."""
    if head.startswith(b"version https://git-lfs.github.com/"):
        return FileKind(f"a git-lfs pointer of {size} bytes, not the file that it stands for", _LFS)
    if b"/annex/objects/" in head[:200]:
        return FileKind("a git-annex pointer, not the file that it stands for", "run `git annex get` on it")
    text = _as_text(head, size)
    if text is None:
        return None
    begin = text.lstrip("\ufeff \t\r\n").lower()
    if begin.startswith(("<!doctype html", "<html", "<head", "<script", "<body", "<title", "<meta", "<!--")):
        return FileKind("a web page (HTML)", _PAGE)
    if begin.startswith("<?xml") or (begin.startswith("<") and ">" in begin):
        return FileKind("a text in XML", f"a server may have sent an error ({_PAGE})")
    said = " ".join(text[:60].split())
    if begin.startswith(("{", "[")):
        return FileKind(
            f"a text in JSON that begins with {said!r}", "look into it, and download the file itself"
        )
    return FileKind(f"a text that begins with {said!r}", "look into it, and download the file itself")


def _as_text(head: bytes, size: int) -> str | None:
    """The first bytes as text; None if they are not text."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    for cut in range(4 if size > len(head) else 1):  # a character may be cut at the end
        try:
            text = head[: len(head) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
        return text if all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text) else None
    return None


def _protocol_buffer(path: Path, head: bytes) -> FileKind | None:
    """Formats without a magic number: by the first fields that ONNX and TensorFlow write, or by the name."""
    suffix = path.suffix.lower()
    if head[:3] == b"\x08\x01\x12":
        return FileKind("a TensorFlow SavedModel")
    is_onnx = (
        head[:1] == b"\x08" and len(head) > 2 and 2 <= head[1] <= 32 and head[2] in b"\x12\x1a\x22\x3a\x42"
    )
    if is_onnx or suffix == ".onnx":
        return FileKind("an ONNX model")
    if suffix == ".pb" or (head[:1] == b"\x0a" and (b"Placeholder" in head or b"Const" in head)):
        return FileKind("a TensorFlow graph")
    if ".data-0" in path.name or suffix in (".index", ".ckpt"):
        return FileKind("part of a TensorFlow checkpoint")
    return None
