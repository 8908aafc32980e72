"""VOC's maps: a PNG beside each image that gives every pixel a number (VOC2012 development kit, section 2.2).

    DIR/SegmentationClass/NAME.png, the number of a class   DIR/SegmentationObject/NAME.png, of an object

0 is the background and 255 void, the border around objects. The PNGs are palette images
(`vision_jax.data.annotations.palette`). Tools that lose the palette leave RGB pictures; in exactly its colors
they are read by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vision_jax.data.codecs.images import images_by_stem
from vision_jax.data.formats.voc.lists import folder_of
from vision_jax.types import UserError


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
