"""VOC's maps: a PNG beside each image that gives every pixel a number (VOC2012 development kit, section 2.2).

    DIR/SegmentationClass/NAME.png, the number of a class   DIR/SegmentationObject/NAME.png, of an object

0 is the background and 255 void, the border around objects. The PNGs are palette images: a viewer shows each
number's colour. A number's lowest three bits are the highest ones of red, green and blue, the next three the
bits below them, and so on: black, dark red (128, 0, 0), dark green (0, 128, 0), ... Tools that lose the
palette leave RGB pictures; in exactly these colours they are read by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vision_jax.data.images import images_by_stem
from vision_jax.data.voc_lists import folder_of
from vision_jax.types import UserError

COLOURS = np.array(
    [
        [sum((number >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
        for number in range(256)
    ],
    np.uint8,
)


def find_maps(root: Path, name: str, what: str, lack: str) -> dict[str, Path]:
    """The maps of a data set by the names of their images.

    Args:
        root: of the data set.
        name: of the maps' folder.
        what: the maps are, for messages.
        lack: what it means that the folder is not there.

    Raises:
        UserError: no such folder, no maps in it.
    """
    maps = images_by_stem(folder_of(root, name, lack))
    if not maps:
        raise UserError(f"{root / name}: there are no {what}s (.png)")
    return maps


def maps_of(
    names: Sequence[str], maps: Mapping[str, Path], folder: Path, what: str, where: str
) -> list[Path]:
    """The maps of a split's images.

    Args:
        names: of the images.
        maps: by name.
        folder: that holds them, for messages.
        what: they are.
        where: the split.

    Raises:
        UserError: a listed image has none.
    """
    absent = [name for name in names if name not in maps]
    if absent:
        raise UserError(
            f"{where}: {len(absent)} of its {len(names)} images have no {what} in {folder}; first: "
            f"{absent[0]}.png: take them out of the list in ImageSets/Segmentation, or add their maps"
        )
    return [maps[name] for name in names]
