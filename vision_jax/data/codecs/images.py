"""Image files of any kind as 8-bit RGB, upright.

Whatever the file holds, `read_image` gives uint8 [h, w, 3]:

- gray and bilevel pictures have their value repeated in the three channels;
- a palette is looked up; alpha is dropped (the colors of transparent pixels are those stored);
- 16 bits per channel are scaled, 0..65535 -> 0..255, not clipped; floating point is read as 0..1 where no
  value is above 1, as 0..255 otherwise;
- CMYK and YCbCr are converted; the first frame of an animation is taken;
- the EXIF orientation (EXIF 2.32, tag 0x0112: how the camera was held) is applied.

Annotations are made by some tools on the upright picture and by others on the stored rows and columns. A
caller that knows the size which its annotations speak of passes it: the orientation is then applied unless
only the stored, unturned picture has that size, and a picture that has it neither way is a `UserError`. An
unreadable or truncated file is a `UserError` too, which says what the file is
(`vision_jax.data.codecs.unreadable`).

A picture of more than 178,956,970 pixels is refused, since a small file can claim more than the memory holds;
the environment variable VISION_JAX_MAX_PIXELS sets another limit.

Label maps are read by `read_indices`: what a gray image stores, or a palette image's indices, not colors.

A picture may also lie inside another file: `Encoded` is its content and says where it comes from.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, UnidentifiedImageError

from vision_jax.data.codecs.unreadable import explain
from vision_jax.types import HEAD, UserError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".png", ".bmp", ".gif", ".webp", ".avif"}
    | {".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)

LIMIT_VARIABLE = "VISION_JAX_MAX_PIXELS"
_MOST_PIXELS = 178_956_970
# Pictures above the limit are an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_ORIENTATION = 0x0112
_DNG_VERSION = 50706  # a tag that only raw files have (Adobe's DNG specification 1.7)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_OF_PNG = ("exif", "Raw profile type exif")
_LARGEST_INDEX = 65535
_LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF")
_SPREAD = {"L;2": 85, "L;4": 17}  # what Pillow multiplies gray values of 2 and 4 bits by


@dataclass(frozen=True)
class Encoded:
    """The content of an image file that is part of another file.

    Attributes:
        content: what the image file would hold.
        where: the other file and the position in it, for messages.
    """

    content: bytes
    where: str

    def __str__(self) -> str:
        return self.where


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is a picture; hidden files are not."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The image files directly in a folder, by name without extension, sorted.

    Raises:
        UserError: two of them differ in their extensions only.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_image(path):
            if path.stem in files:
                raise UserError(
                    f"{path}: {files[path.stem].name} has the same name; which of them is annotated? "
                    f"Rename or remove one"
                )
            files[path.stem] = path
    return files


def read_size(path: Path | Encoded, upright: bool = True) -> tuple[int, int]:
    """The size of an image file, from its header alone.

    Args:
        path: an image file, or the content of one.
        upright: with the EXIF orientation applied, as `read_image(path)` does; else as stored.

    Returns:
        (height, width) in pixels.

    Raises:
        UserError: the file is missing or is no image.
    """
    with _opened(path) as image:
        return _upright_size(image) if upright else (image.height, image.width)


def read_image(
    path: Path | Encoded,
    size: tuple[int, int] | None = None,
    upright: bool = True,
    whose: str = "its annotation",
) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an image file as RGB.

    Args:
        path: an image file, or the content of one.
        size: the (height, width) that annotations give; None takes the picture as it is.
        upright: with the EXIF orientation applied; else as stored.
        whose: what gives that size, for the message.

    Returns:
        uint8 RGB, 0..255, an array of its own.

    Raises:
        UserError: the file is missing, unreadable, truncated, or has not that size.
    """
    with _opened(path) as image:
        turn = _orientation(image) if upright else 1
        height, width = _upright_size(image) if upright else (image.height, image.width)
        if size is not None and size != (height, width):
            if (image.height, image.width) != size:
                raise UserError(
                    f"{path}: the image is {width}x{height} (width x height), but {whose} says "
                    f"{size[1]}x{size[0]}: correct the annotation or restore the image it was made for"
                )
            turn = 1
        image.load()
        if turn in _UPRIGHT:
            image = image.transpose(_UPRIGHT[turn])
        return _rgb(image, path)


def read_indices(
    path: Path | Encoded, colors: UInt8[np.ndarray, "n 3"] | None = None, by_color: bool = False
) -> Int[np.ndarray, "h w"]:
    """Reads a label map: the stored values of a gray image, the indices of a palette image.

    Args:
        path: an image of one channel, 1 to 16 bits, or the content of one; EXIF is not looked at.
        colors: the color of each index, by which a map stored as RGB is read, without its alpha; None
            refuses such maps.
        by_color: whether maps of one channel are read by their colors too: those with a palette, and gray
            ones with a value that is no row of `colors`' distinct ones; where a color stands for nothing,
            their values are taken.

    Returns:
        int32 indices, 0..65535, not mapped in any way.

    Raises:
        UserError: the file is missing, unreadable, truncated, compressed with loss (JPEG), or holds colors
            that stand for no index or values that are none.
    """
    with _opened(path) as image:
        if image.format in _LOSSY:
            raise UserError(
                f"{path}: this label map is stored as {image.format}, whose compression alters the indices: "
                "write it anew from its source as a gray or palette PNG"
            )
        if colors is not None and image.mode in ("RGB", "RGBA"):
            return _look_up(np.array(image)[..., :3], colors, path)
        if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
            kinds = {"LA": "gray with transparency", "F": "floating point"}
            raise UserError(
                f"{path}: a label map must be a gray or palette image whose values are class indices, but "
                f"this one is stored as {kinds.get(image.mode, 'colors')} ({image.mode}): write the index "
                f"of each pixel's class, in a gray or palette PNG, or list the color of each class in a "
                f"labelmap.txt (name:r,g,b::)"
            )
        if by_color and colors is not None and image.mode in ("P", "L"):
            colored = _look_up_one_channel(image, colors, path)
            if colored is not None:
                return colored
        tiles = getattr(image, "tile", ())
        spread = _SPREAD.get(str(tiles[0][3]), 1) if tiles else 1
        indices = np.array(image).astype(np.int32) // spread
    low, high = indices.min(initial=0), indices.max(initial=0)
    if low < 0 or high > _LARGEST_INDEX:
        raise UserError(
            f"{path}: holds {low if low < 0 else high}, which is no class index: write 0 and more, at most "
            f"{_LARGEST_INDEX}, and 255 where void"
        )
    return indices


def _look_up_one_channel(
    image: Image.Image, colors: UInt8[np.ndarray, "n 3"], path: Path | Encoded
) -> Int[np.ndarray, "h w"] | None:
    """The index of each pixel's color; None where the values are to be taken as they are."""
    if image.mode == "L":
        distinct = len(np.unique(colors[:-1], axis=0))
        values = np.array(image)
        if values[values < 255].max(initial=0) < distinct and not (colors[:-1] == 255).all(1).any():
            return None
    try:
        return _look_up(np.array(image.convert("RGB")), colors, path)
    except UserError:
        return None


@contextmanager
def _opened(path: Path | Encoded) -> Iterator[Image.Image]:
    """An image opened lazily; whatever goes wrong inside the block is the file's fault."""
    limit = _limit()
    try:
        if not isinstance(path, Encoded):
            _check_kind(path)
        with Image.open(BytesIO(path.content) if isinstance(path, Encoded) else path) as image:
            if image.width * image.height > limit:
                raise UserError(_too_large(path, image.width * image.height, limit))
            if _DNG_VERSION in getattr(image, "tag_v2", ()):
                raise UserError(f"{path}: this is a camera's raw file (DNG): develop it to JPEG or PNG")
            if image.format == "EPS":  # which Pillow would have another program run
                raise UserError(f"{path}: this is PostScript: convert it to JPEG or PNG")
            yield image
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such image file") from None
    except Image.DecompressionBombError as error:
        numbers = re.findall(r"\d+", str(error))  # Pillow tells the pixels, and its own limit
        raise UserError(_too_large(path, int(numbers[0]), limit)) from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: {explain(*_head(path))}") from None
    except OSError as error:
        if error.errno is None:  # of a decoder, not of the file system
            raise UserError(_damaged(path, error)) from error
        advice = (
            "change its permissions" if isinstance(error, PermissionError) else "check the disk or network"
        )
        raise UserError(f"{path}: cannot be read ({error.strerror}): {advice}") from error
    except Exception as error:  # decoders raise SyntaxError, ValueError, struct.error, ...
        raise UserError(_damaged(path, error)) from error


def _check_kind(path: Path) -> None:
    """Refuses what is no file: reading a pipe would wait for ever."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a folder, although its name is an image's: rename it or take it out")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: is no file but a pipe, socket or device: take it out of the data")


def _head(path: Path | Encoded) -> tuple[bytes, int]:
    """The first bytes of an image's content, and how many there are."""
    if isinstance(path, Encoded):
        return path.content[:HEAD], len(path.content)
    with path.open("rb") as file:
        return file.read(HEAD), path.stat().st_size


def _damaged(path: Path | Encoded, error: Exception) -> str:
    return (
        f"{path}: the image cannot be read, it may be truncated ({error}): replace the file or take it "
        f"out of the data"
    )


def _limit() -> int:
    """The most pixels that are read; Pillow warns of fewer unless told of it, and refuses twice as many."""
    text = os.environ.get(LIMIT_VARIABLE, str(_MOST_PIXELS))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise UserError(f"{LIMIT_VARIABLE}={text}: give a number of pixels, such as 400000000")
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(text))
    return int(text)


def _too_large(path: Path | Encoded, pixels: int, limit: int) -> str:
    return (
        f"{path}: the image is too large: {pixels:,} pixels, where at most {limit:,} are read. If it is what "
        f"you mean, allow it by the environment variable {LIMIT_VARIABLE}={pixels}; else cut it into parts "
        f"or make it smaller"
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation yet to be applied: 1 where there is none, or none that makes sense."""
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF pictures itself as it loads them
    if image.format == "PNG" and not any(key in image.info for key in _EXIF_OF_PNG):
        return 1  # asking a PNG without an EXIF chunk up front would decode all of it
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block is no reason to refuse the picture
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(height, width) in pixels with the EXIF orientation applied."""
    sideways = _orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if sideways else (image.height, image.width)


def _rgb(image: Image.Image, path: Path | Encoded) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image in any of Pillow's modes as uint8 RGB; the module's text says how.

    Raises:
        UserError: colors or values that have no 8-bit RGB, such as CIE L*a*b*.
    """
    if image.mode == "RGB":
        return np.array(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _gray_to_rgb(np.array(image).astype(np.float32) / 257, path)
    if image.mode == "F":
        values = np.array(image)
        return _gray_to_rgb(values * 255 if values.max(initial=0) <= 1 else values, path)
    if image.mode == "LAB":
        raise UserError(f"{path}: colors are stored as CIE L*a*b*, which is not read here: save it as RGB")
    if image.mode in ("RGBa", "La"):  # multiplied by alpha
        image = image.convert(image.mode[:-1] + "A")
    if image.mode == "P":
        image = image.convert("RGBA")  # straight to RGB, Pillow warns about transparency kept as bytes
    return np.array(image.convert("RGB"))


def _look_up(
    pixels: UInt8[np.ndarray, "h w 3"], colors: UInt8[np.ndarray, "n 3"], path: Path | Encoded
) -> Int[np.ndarray, "h w"]:
    """The index of each pixel's color, int32: of several rows of one color the first.

    Raises:
        UserError: a color that is not among them.
    """
    numbers, known = (rgb.astype(np.int32) @ np.array([65536, 256, 1], np.int32) for rgb in (pixels, colors))
    order = np.argsort(known, kind="stable").astype(np.int32)
    indices = order[np.searchsorted(known[order[:-1]], numbers)]
    strange = np.argwhere(known[indices] != numbers)
    if len(strange):
        row, column = strange[0].tolist()
        raise UserError(
            f"{path}: this label map is stored as colors (RGB), and {tuple(pixels[row, column].tolist())} "
            f"at row {row}, column {column} (from 0) is not one of those that stand for indices: write the "
            f"index of each pixel's class, in a gray or palette PNG, or list the color of each class in a "
            f"labelmap.txt (name:r,g,b::)"
        )
    return indices


def _gray_to_rgb(values: Float[np.ndarray, "h w"], path: Path | Encoded) -> UInt8[np.ndarray, "h w 3"]:
    """Repeats gray values, 0..255, rounded, in three channels.

    Raises:
        UserError: values outside that range, or NaN.
    """
    if not (values.min(initial=0) >= 0 and values.max(initial=0) <= 255):
        raise UserError(
            f"{path}: gray values outside the range of the format (0..65535 for integers, 0..1 or 0..255 for "
            f"floating point, none of them NaN): rescale the image"
        )
    return np.repeat(np.rint(values).astype(np.uint8)[..., None], 3, axis=-1)
