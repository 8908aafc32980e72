"""The 8x8 handwritten digits of the UCI optical recognition set (Alpaydin and Kaynak 1998), to classify."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.records import ClassificationRecord
from vision_jax.types import UserError


def load_digits() -> tuple[UInt8[np.ndarray, "n 8 8"], Int[np.ndarray, " n"]]:
    """The 1,797 pictures, intensities 0..16, and the digit that each shows, int32 in 0..9.

    Raises:
        UserError: scikit-learn, which ships them, is not installed.
    """
    # Read as a file: importing sklearn.datasets, and SciPy with it, takes seconds of a program's start.
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError("the handwritten digits are not installed: pip install scikit-learn")
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int32)


class Digits:
    """The 1,797 handwritten 8x8 digits that scikit-learn ships: a `ClassificationSource`.

    The first 1,437 are for training, the other 360 for validation.

    Attributes:
        classes: "0" to "9".
    """

    classes: tuple[str, ...] = tuple("0123456789")

    def __init__(self, split: Literal["train", "val"]):
        """Reads the pictures.

        Args:
            split: train or val.
        """
        pictures, labels = load_digits()
        part = slice(None, 1437) if split == "train" else slice(1437, None)
        self._first = part.start or 0
        self._pictures, self._labels = pictures[part], labels[part]

    def __len__(self) -> int:
        return len(self._pictures)

    def record(self, index: int) -> ClassificationRecord:
        return ClassificationRecord(index, f"digit_{self._first + index:04d}", int(self._labels[index]))

    def image(self, index: int) -> UInt8[np.ndarray, "8 8 3"]:
        """Gray in three channels, 0..255."""
        gray = (self._pictures[index].astype(np.uint16) * 255 // 16).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)


def open_digits() -> tuple[Digits, Digits]:
    """(training, evaluation) digits.

    Raises:
        UserError: scikit-learn, which ships them, is not installed.
    """
    return Digits("train"), Digits("val")
