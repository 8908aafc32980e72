"""What a file is that an image reader does not know, by its first bytes, and what to do about it.

Downloads leave web pages and messages under an image's name, Git leaves pointers, telephones write HEIC,
cameras write raw data. The signatures are those of the formats' own specifications.
"""

from __future__ import annotations

HEAD = 512  # bytes that are looked at

_AGAIN = "download or copy it again"
_CONVERT = "convert it to JPEG or PNG"
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_VIDEO = "a video: extract its frames as JPEG or PNG (ffmpeg -i FILE frames/%06d.png)"
_RAW = "a camera's raw file: develop it to JPEG or PNG"

# (the first bytes, what they mean and what to do)
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image: fetch the images with `git lfs pull`"),
    (b"/annex/objects", "a git-annex pointer, not the image: fetch the images with `git annex get`"),
    (b"%PDF", "a PDF: export its pages as PNG or JPEG"),
    (b"%!PS", f"PostScript: {_CONVERT}"),
    (b"\xff\x0a", f"JPEG XL, which is not read here: {_CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"JPEG XL, which is not read here: {_CONVERT}"),
    (b"\x1a\x45\xdf\xa3", _VIDEO),
    (b"\0\0\x01\xba", _VIDEO),
    (b"\0\0\x01\xb3", _VIDEO),
    (b"FLV\x01", _VIDEO),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIRS", _RAW),
    (b"IIU\0", _RAW),
    (b"MMOR", _RAW),
    (b"FOVb", _RAW),
    (b"\x76\x2f\x31\x01", f"OpenEXR, which is not read here: {_CONVERT}"),
    (b"#?RADIANCE", f"Radiance HDR, which is not read here: {_CONVERT}"),
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\x93NUMPY", "a NumPy array: save it as PNG"),
    (b"\x89HDF", "an HDF5 file: save its images as PNG"),
    (b"\0\0\0\0\0\0\0\0", "a file of zeros, as a copy that was broken off leaves it: " + _AGAIN),
)
# Formats that are read, of which this one file is not.
_READ = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "BigTIFF"), (b"MM\0+", "BigTIFF"),
)  # fmt: skip


def explain(head: bytes, count: int) -> str:
    """Says what a file is and what to do.

    Args:
        head: its first `HEAD` bytes.
        count: bytes in all.

    Returns:
        A clause that follows the file's name and a colon.
    """
    if not count:
        return f"the file is empty (0 bytes): {_AGAIN}"
    for beginning, told in _BEGINNINGS:
        if head.startswith(beginning):
            return f"this is {told}"
    for told in (_media(head), _text(head)):
        if told:
            return f"this is {told}"
    if head[128:132] == b"DICM":
        return f"this is DICOM: {_CONVERT}"
    for beginning, name in _READ:
        if head.startswith(beginning):
            return (
                f"begins as a {name} file but is damaged, or {name} of a kind that cannot be read here "
                f"({count} bytes): {_AGAIN}, or save it as an 8-bit PNG"
            )
    return (
        f"not an image, or one of an unknown or damaged format ({count} bytes): "
        f"replace the file or take it out of the data"
    )


def _media(head: bytes) -> str | None:
    """Of files made of boxes (ISO/IEC 14496-12) or RIFF chunks."""
    if head[:4] == b"RIFF":
        return _VIDEO if head[8:12] == b"AVI " else None
    if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide"):
        return None
    brand = head[8:12]
    if brand in (b"avif", b"avis"):
        return f"AVIF, which is not read here: {_CONVERT}"
    if brand in _HEIC:
        return (
            f"HEIC, which telephones write and which is not read here: {_CONVERT} (macOS: sips -s format "
            "jpeg FILE --out FILE.jpg; Linux: heif-convert FILE FILE.jpg)"
        )
    return _RAW if brand == b"crx " else _VIDEO


def _text(head: bytes) -> str | None:
    """Of files of text; UTF-16 and a byte-order mark are looked through."""
    words = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    if b"<svg" in words and words.startswith(b"<"):
        return f"SVG, a drawing without pixels: {_CONVERT}"
    if words.startswith((b"<!doctype html", b"<html", b"<head", b"<script")) or b"<html" in words[:256]:
        return f"a web page (HTML), as a download that failed leaves it: {_AGAIN}"
    if words.startswith(b"<?xml"):
        return f"XML text, such as a server's message: {_AGAIN}"
    if words[:1] in (b"{", b"[") and not any(byte < 9 for byte in head if byte):
        return f"JSON text, such as a server's message: {_AGAIN}"
    return None
