"""What a source states about an image: numpy, ragged, in the original image's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int


@dataclass(frozen=True)
class ClassificationRecord:
    """One image's class as its source holds it.

    Attributes:
        id: unique in a split.
        name: the file's name, or the position in an IDX file.
        label: 0..K-1.
    """

    id: int
    name: str
    label: int


@dataclass(frozen=True)
class DetectionRecord:
    """One image's annotations as its source holds them: numpy, ragged, original pixels.

    Attributes:
        id: the source's own integer id, unique in a split (COCO's image id; elsewhere the position).
        name: the file's name as people know it.
        height, width: of the original image, in pixels, after EXIF rotation.
        boxes: float64 [n, 4], (x1, y1, x2, y2), x2 and y2 exclusive, inside the image, never empty: exactly
            what the file states, since an IoU on a threshold is decided by the last digit.
        labels: int32 [n], 0..K-1.
        ignore: bool [n], crowds and difficult objects: neither wanted nor counted as wrong.
        area: float64 [n], pixels squared, which decides small / medium / large.
    """

    id: int
    name: str
    height: int
    width: int
    boxes: Float64[np.ndarray, "n 4"]
    labels: Int[np.ndarray, " n"]
    ignore: Bool[np.ndarray, " n"]
    area: Float64[np.ndarray, " n"]
