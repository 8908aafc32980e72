"""What a file is that an image reader does not know, by its first bytes, and what to do about it.

Telephones write HEIC, cameras write raw data, documents and videos come under an image's name; web pages,
Git's pointers and archives are told by `vision_jax.types.file_kind`. The signatures are those of the formats'
own specifications.
"""

from __future__ import annotations

from vision_jax.types import content_kind

_AGAIN = "download or copy it again"
_CONVERT = "convert it to JPEG or PNG"
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_VIDEO = "a video: extract its frames as JPEG or PNG (ffmpeg -i FILE frames/%06d.png)"
_RAW = "a camera's raw file: develop it to JPEG or PNG"

# (the first bytes, what they mean and what to do)
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
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
    (b"\x93NUMPY", "a NumPy array: save it as PNG"),
    (b"\x89HDF", "an HDF5 file: save its images as PNG"),
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
    for beginning, told in _BEGINNINGS:
        if head.startswith(beginning):
            return f"this is {told}"
    told = _media(head) or _drawing(head)
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
    kind = content_kind(head, count)
    if kind is not None:
        return f"this is {kind.what}, not an image" + (f": {kind.remedy}" if kind.remedy else f": {_AGAIN}")
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


def _drawing(head: bytes) -> str | None:
    """Of SVG, which is text; UTF-16 and a byte-order mark are looked through."""
    words = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").lower()
    if b"<svg" in words and words.startswith(b"<"):
        return f"SVG, a drawing without pixels: {_CONVERT}"
    return None
