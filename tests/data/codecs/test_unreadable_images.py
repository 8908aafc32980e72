"""Files that are no image that can be read: what they are, what to do; and unusual ones that can be read."""

import io
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from vision_jax.cli.predict import _read
from vision_jax.data.codecs.images import (
    LIMIT_VARIABLE,
    Encoded,
    images_by_stem,
    read_image,
    read_indices,
    read_size,
)
from vision_jax.types import UserError

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def brand(name):
    return b"\0\0\0\x18ftyp" + name + b"\0" * 40


def dng():
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[50706] = 1
    tags[50706] = b"\x01\x04\0\0"
    return encoded(Image.fromarray(PICTURE), "TIFF", tiffinfo=tags)


NOBODY = 65534

KINDS = {
    "empty": (b"", "this is an empty file, not an image: download or copy it again"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "`git lfs pull`"),
    "git-annex": (b"/annex/objects/SHA256E-s1--0.jpg\n", "`git annex get`"),
    "HTML": (b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>404</body></html>", "a web page (HTML)"),
    "HTML with a comment": (b"<!-- x --><HTML><head></head></HTML>", "a web page (HTML)"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a text in XML"),
    "JSON": (b'{"error": "rate limit"}', "a text in JSON"),
    "SVG": (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG, a drawing"),
    "HEIC": (
        brand(b"heic"),
        "this is HEIC, which telephones write and which is not read here: convert it to JPEG",
    ),
    "HEIC of Samsung": (brand(b"mif1"), "this is HEIC"),
    "AVIF, damaged": (brand(b"avif"), "AVIF"),
    "MP4": (brand(b"isom"), "a video: extract its frames"),
    "QuickTime": (brand(b"qt  "), "a video"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST", "a video"),
    "WebM": (b"\x1a\x45\xdf\xa3" + b"\0" * 20, "a video"),
    "Canon CR3": (brand(b"crx "), "a camera's raw file"),
    "Fuji": (b"FUJIFILMCCD-RAW 0201", "a camera's raw file"),
    "DNG": (dng(), "a camera's raw file (DNG): develop it"),
    "PDF": (b"%PDF-1.7\n", "a PDF: export its pages"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "PostScript"),
    "JPEG XL": (b"\xff\x0a" + b"\0" * 9, "JPEG XL"),
    "ZIP": (b"PK\x03\x04" + b"\0" * 30, "a zip archive, not an image: unpack it"),
    "gzip": (b"\x1f\x8b\x08" + b"\0" * 30, "packed with gzip"),
    "NumPy": (b"\x93NUMPY\x01\0", "a NumPy array"),
    "DICOM": (b"\x01" * 128 + b"DICM", "DICOM"),
    "zeros": (b"\0" * 4096, "zeros alone in its first"),
    "damaged PNG": (b"\x89PNG\r\n\x1a\n", "begins as a PNG file but is damaged"),
    "floating-point colors": (
        cv2.imencode(".tiff", np.zeros((4, 4, 3), np.float32))[1].tobytes(),
        "TIFF of a kind that cannot be read here",
    ),
    "text": (b"hello", "a text that begins with 'hello'"),
    "CIE Lab": (encoded(Image.new("LAB", (4, 4)), "TIFF"), "CIE L*a*b*"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is_and_what_to_do(kind, tmp_path):
    content, told = KINDS[kind]
    (tmp_path / "x.jpg").write_bytes(content)
    for path in (tmp_path / "x.jpg", Encoded(content, "shard 3, record 7")):
        with pytest.raises(UserError) as error:
            read_image(path)
        assert str(error.value).startswith(f"{path}: ")
        assert told in str(error.value)
        assert "truncated" not in str(error.value)


def png_of_size(width, height):
    """A PNG whose header claims a size."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def pillows_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back afterwards
    return monkeypatch


def test_a_large_image_is_called_too_large_and_can_be_allowed(tmp_path, pillows_limit, capsys):
    path = tmp_path / "map.png"
    path.write_bytes(png_of_size(13500, 13500))
    for read in (read_image, read_size, read_indices):
        with pytest.raises(UserError) as error:
            read(path)
        assert "too large: 182,250,000 pixels, where at most 178,956,970 are read" in str(error.value)
        assert "VISION_JAX_MAX_PIXELS=182250000" in str(error.value)
        assert "truncated" not in str(error.value)
    (tmp_path / "huge.png").write_bytes(png_of_size(40_000, 40_000))  # which Pillow itself refuses
    with pytest.raises(UserError, match=r"too large: 1,600,000,000 pixels.*VISION_JAX_MAX_PIXELS=1600000000"):
        read_image(tmp_path / "huge.png")
    # `predict` answers the others, and says so.
    Image.fromarray(PICTURE).save(tmp_path / "small.png")
    photos = [(tmp_path / name, name) for name in ("map.png", "small.png")]
    assert [name for _, name, _ in _read(photos, lambda _, file: read_image(file))] == ["small.png"]
    assert "map.png: the image is too large" in capsys.readouterr().err
    pillows_limit.setenv(LIMIT_VARIABLE, "182250000")
    assert read_size(path) == (13500, 13500)
    pillows_limit.setenv(LIMIT_VARIABLE, "52")
    with pytest.raises(UserError, match="54 pixels, where at most 52"):
        read_image(tmp_path / "small.png")
    pillows_limit.setenv(LIMIT_VARIABLE, "54")
    np.testing.assert_array_equal(read_image(tmp_path / "small.png"), PICTURE)
    for bad in ("many", "0", "-1", ""):
        pillows_limit.setenv(LIMIT_VARIABLE, bad)
        with pytest.raises(UserError, match=f"VISION_JAX_MAX_PIXELS={bad}: give a number of pixels"):
            read_image(tmp_path / "small.png")


def test_below_the_limit_nothing_is_said(tmp_path):
    (tmp_path / "x.png").write_bytes(png_of_size(10_000, 10_000))
    with warnings.catch_warnings(record=True) as said:
        assert read_size(tmp_path / "x.png") == (10_000, 10_000)
    assert [str(warning.message) for warning in said] == []


def test_folders_pipes_and_loops_are_no_images(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(UserError, match=r"folder\.jpg: is a folder"):
        read_image(tmp_path / "folder.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match=r"pipe\.jpg: is no file but a pipe"):
        read_image(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(UserError, match=r"loop\.jpg: cannot be read \(.*symbolic links\)"):
        read_image(tmp_path / "loop.jpg")
    assert list(images_by_stem(tmp_path)) == ["folder", "loop", "pipe"]


def test_a_file_without_permission():
    """Root may read everything, and so takes another user's rights for the moment."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder, "x.png")
        Image.fromarray(PICTURE).save(path)
        np.testing.assert_array_equal(read_image(path), PICTURE)
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(UserError, match=r"x\.png: .*\(Permission denied\): change its permissions"):
                read_image(path)
        finally:
            os.seteuid(user)


def wide(suffix, values):
    return cv2.imencode(suffix, values.astype(np.uint16) * 257)[1].tobytes()


RGB = Image.fromarray(PICTURE)
READ = {
    "animated GIF": (encoded(RGB.quantize(), "GIF", save_all=True, append_images=[RGB.quantize()] * 2), None),
    "pages of a TIFF": (encoded(RGB, "TIFF", save_all=True, append_images=[Image.new("RGB", (3, 3))]), 0),
    "animated PNG": (encoded(RGB, "PNG", save_all=True, append_images=[Image.new("RGB", (9, 6))]), 0),
    "transparent palette": (encoded(RGB.quantize(64), "PNG", transparency=0), 40),
    "16 bits and alpha": (wide(".png", np.dstack([PICTURE[..., ::-1], PICTURE[..., :1]])), 0),
    "16-bit colors of a TIFF": (wide(".tiff", PICTURE[..., ::-1]), 0),
    "JPEG 2000": (encoded(RGB, "JPEG2000"), 0),
}


@pytest.mark.parametrize("kind", READ)
def test_unusual_images_are_read(kind):
    content, most = READ[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(Encoded(content, kind))
    assert image.shape == PICTURE.shape
    if most is not None:
        assert np.abs(image.astype(int) - PICTURE).max() <= most


def test_inverted_cmyk_of_adobe_is_turned_back():
    """Photoshop stores CMYK in JPEG inverted, and says so in an APP14 segment; others likewise without it."""
    flat = np.zeros((16, 16, 4), np.uint8)
    flat[:] = [0, 255, 255, 0]  # red
    content = encoded(Image.fromarray(flat, mode="CMYK"), "JPEG", quality=95)
    assert b"Adobe" in content[:64]
    assert np.abs(read_image(Encoded(content, "x"))[4, 4].astype(int) - [255, 0, 0]).max() < 12
