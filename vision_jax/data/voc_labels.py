"""Semantic segmentation in the Pascal VOC format (VOC2012 development kit, section 2.2: "segmentation").

    DIR/SegmentationClass/NAME.png   DIR/ImageSets/Segmentation/{train,val,trainval,test}.txt
    and DIR/JPEGImages (or `images`); annotation files are not needed

A palette (or grey) PNG gives each pixel the number of its class (`vision_jax.data.voc_maps`): 0 is the
background, 1 to 20 are VOC's classes by alphabet, 255 is the void border around objects. A `classes.txt` in
DIR names other classes, one a line, the background too (`vision_jax.data.label_folder`, rule 2). Where the
run's classes are given, labels go by name. Which split trains and which judges: `vision_jax.data.splits`.
Without lists, the images that have a PNG are one split.

Errors (`UserError`): at opening, no folder SegmentationClass, a listed image or PNG that is not there, a name
listed twice, a class that the run has not; on reading, a damaged file, RGB in other colours than VOC's, an
index that is neither class nor void, a PNG that has not its image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vision_jax.data.label_folder import LabelFolder
from vision_jax.data.label_maps import listed_meaning, named_meaning, of_run
from vision_jax.data.voc_lists import Lists
from vision_jax.data.voc_maps import COLOURS, find_maps, maps_of

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
FOLDER = "SegmentationClass"


def open_voc_segmentation(
    root: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    holdout: float = 0.0,
) -> tuple[LabelFolder, LabelFolder]:
    """Opens a VOC data set with label maps; no pixels are read.

    Args:
        root: the folder with `SegmentationClass` and `JPEGImages`.
        classes: the classes of a run; None takes VOC's, or those of `classes.txt`.
        train, val: names of lists in ImageSets/Segmentation, where `train` and `val` are not what is wanted.
        holdout: with one split only, the fraction of images kept back for judging; 0 uses all for both.

    Returns:
        (training, judging).

    Raises:
        UserError: see the module's text.
    """
    maps = find_maps(root, FOLDER, "label map", "this VOC data set has no label maps for segmentation")
    listing = root / "classes.txt"
    own = listed_meaning(listing, None) if listing.is_file() else named_meaning(CLASSES, None, str(root))
    known, meaning = of_run(*own, classes, str(listing if listing.is_file() else root))

    def split(names: Sequence[str], images: Sequence[Path], where: str) -> LabelFolder:
        pairs = list(zip(images, maps_of(names, maps, root / FOLDER, "label map", where), strict=True))
        return LabelFolder(pairs, known, meaning, f"name the classes in {listing}, one a line", COLOURS)

    lists = Lists.read(root, "Segmentation", maps, train, val, lambda name: name in maps)
    return lists.open(split, holdout)
