"""Classification data in IDX files (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").

    DIR/train-images-idx3-ubyte[.gz]   DIR/train-labels-idx1-ubyte[.gz]
    DIR/t10k-images-idx3-ubyte[.gz]    DIR/t10k-labels-idx1-ubyte[.gz]

Kind `idx`, for classification; option `length=N`: train on the first N images.

An IDX file is two zero bytes, a type code (8: unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit integer, then the values, last dimension fastest. Gray images [n, h, w] get three equal
channels; [n, h, w, 3] is RGB as it is. The classes are the labels' numbers, "0" to the largest in either
file, unless `classes.txt` names them, one a line. Where the run's classes are given, labels go by name.

The files are small and are read at opening; anything wrong in them is a `UserError` then: a missing or
truncated file, another type, images and labels of different number, a label without a name, a class that the
run has not.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.annotations.boxes import labels_by_name
from vision_jax.data.files.listing import entries, read_lines
from vision_jax.data.format import Format, Opener
from vision_jax.data.records import ClassificationRecord
from vision_jax.types import UserError

_UNSIGNED_BYTE = 8
_TRAINING = ("train",)
_EVALUATION = ("t10k", "test", "val")


class IdxClassification:
    """Labeled images in memory: a `ClassificationSource`.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(
        self,
        images: UInt8[np.ndarray, "n h w *channels"],
        labels: Int[np.ndarray, " n"],
        classes: tuple[str, ...],
    ) -> None:
        """Takes images, gray or RGB, and their labels, 0..K-1."""
        self.classes = classes
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._images)

    def record(self, index: int) -> ClassificationRecord:
        """The label of one image; its name is its position in the file."""
        return ClassificationRecord(id=index, name=str(index), label=int(self._labels[index]))

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels; gray is repeated in the three channels."""
        image = self._images[index]
        return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image.copy()


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Reads an IDX file of unsigned bytes, gzip-compressed or not (told by its first bytes).

    Args:
        path: the file.

    Returns:
        Its array, any number of dimensions.

    Raises:
        UserError: the file is missing, truncated, longer than it says, or of another type.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be decompressed, it may be truncated ({error})") from None
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UserError(f"{path}: not an IDX file: it does not start with two zero bytes and a type")
    if content[2] != _UNSIGNED_BYTE:
        raise UserError(
            f"{path}: holds IDX type {content[2]}; only {_UNSIGNED_BYTE}, unsigned bytes, is read"
        )
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    size = math.prod(shape)
    if len(content) - start != size:
        raise UserError(
            f"{path}: has {max(len(content) - start, 0)} values where {' x '.join(map(str, shape))} = {size} "
            f"are announced: the file is damaged"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def open_idx(
    root: Path, classes: tuple[str, ...] | None = None, length: int | None = None
) -> tuple[IdxClassification, IdxClassification]:
    """Opens a folder of IDX files.

    Args:
        root: the folder.
        classes: the classes of a run; None takes the labels' numbers or `classes.txt`.
        length: how many images to train on, the first; all if None or if there are fewer.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    splits = [_read_split(root, prefixes) for prefixes in (_TRAINING, _EVALUATION)]
    largest = max((int(labels.max()) for _, labels, _ in splits if labels.size), default=-1)
    if largest < 0:
        raise UserError(f"{root}: its files hold no labels: there is no class")
    listing = root / "classes.txt"
    if listing.is_file():
        names = tuple(line for line in read_lines(listing) if line)
        if largest >= len(names):
            raise UserError(f"{listing}: names {len(names)} classes, but there are labels up to {largest}")
    else:
        names = tuple(str(label) for label in range(largest + 1))
    if classes is None:
        classes = names
    sources = []
    for (images, labels, path), most in zip(splits, (length, None), strict=True):
        used = np.unique(labels).tolist()
        label = labels_by_name([names[value] for value in used], classes, str(path))
        table = np.full(256, -1, np.int32)
        table[used] = [label[names[value]] for value in used]
        sources.append(IdxClassification(images[:most], table[labels[:most]], classes))
    return sources[0], sources[1]


def _read_split(
    root: Path, prefixes: tuple[str, ...]
) -> tuple[UInt8[np.ndarray, "n h w *channels"], UInt8[np.ndarray, " n"], Path]:
    """The images and labels of a split, checked against each other, and the labels' file."""
    image_path = _find(root, [f"{prefix}-images" for prefix in prefixes])
    label_path = _find(root, [f"{prefix}-labels" for prefix in prefixes])
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.ndim != 3 and not (images.ndim == 4 and images.shape[3] == 3):
        raise UserError(f"{image_path}: has shape {images.shape}, not (images, rows, columns)")
    if labels.ndim != 1 or len(labels) != len(images):
        raise UserError(
            f"{label_path}: has shape {labels.shape}, but {image_path.name} holds {len(images)} images"
        )
    return images, labels, label_path


def _find(root: Path, starts: list[str]) -> Path:
    """The one IDX file of a folder whose name begins so; both `-idx3-ubyte` and `.idx3-ubyte` are usual."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    for start in starts:
        found = [path for path in entries(root) if path.name.startswith(start)]
        if found:
            return found[0]
    raise UserError(f"{root}: no IDX file {' or '.join(start + '-idx*-ubyte[.gz]' for start in starts)}")


FORMATS = {"idx": Format({"classification": Opener(open_idx, {"length": int})})}
