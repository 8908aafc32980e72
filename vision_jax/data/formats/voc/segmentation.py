"""Semantic segmentation in the Pascal VOC format (VOC2012 development kit, section 2.2: "segmentation").

    DIR/SegmentationClass/NAME.png   DIR/ImageSets/Segmentation/{train,val,trainval,test}.txt
    and DIR/JPEGImages (or `images`); annotation files are not needed

A palette (or gray) PNG gives each pixel the number of its class (`vision_jax.data.formats.voc.maps`): 0 is
the background, 1 to 20 are VOC's classes by alphabet, 255 is the void border around objects. A `classes.txt`
in DIR names other classes, one a line, the background too; CVAT's `labelmap.txt` names them with their colors
(`vision_jax.data.annotations.class_listing`; `vision_jax.data.formats.folders.labels`, rule 2). Where the
run's classes are given, labels go by name. Which split trains and which is evaluated on:
`vision_jax.data.formats.voc.lists`. Without lists, the images that have a PNG are one split.

Errors (`UserError`): at opening, no folder SegmentationClass, a listed image or PNG that is not there, a name
listed twice, a class that the run has not; on reading, a damaged file, RGB in other colors than VOC's, an
index that is neither class nor void, a PNG that has not its image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vision_jax.data.annotations.class_listing import find_listing
from vision_jax.data.annotations.label_map_pairs import LabelMapPairs, check_label_maps
from vision_jax.data.annotations.label_maps import named_meaning, of_run, with_foreground
from vision_jax.data.annotations.palette import PALETTE
from vision_jax.data.formats.voc.lists import Lists
from vision_jax.data.formats.voc.maps import find_maps, maps_of

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
    foreground: int | None = None,
) -> tuple[LabelMapPairs, LabelMapPairs]:
    """Opens a VOC data set with label maps; no pixels are read.

    Args:
        root: the folder with `SegmentationClass` and `JPEGImages`.
        classes: the classes of a run; None takes VOC's, or those of `classes.txt`.
        train, val: names of lists in ImageSets/Segmentation, where `train` and `val` are not what is wanted.
        holdout: with one split only, the fraction of images kept back for evaluation; 0 uses all for both.
        foreground: the index of the second of two classes, besides 1: 255 in masks of 0 and 255.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    maps = find_maps(root, FOLDER, "label map", "this VOC data set has no label maps for segmentation")
    listing = find_listing(root, PALETTE)
    names, path = (CLASSES, root) if listing is None else (listing.names, listing.path)
    if listing is None and foreground is not None:
        names = ("background", "foreground")
    own, meaning = named_meaning(names, None, str(path))
    known, meaning = of_run(own, with_foreground(own, meaning, foreground, str(path)), classes, str(path))
    colors = PALETTE if listing is None or listing.colors is None else listing.colors

    def split(names: Sequence[str], images: Sequence[Path], where: str) -> LabelMapPairs:
        pairs = list(zip(images, maps_of(names, maps, root / FOLDER, "label map", where), strict=True))
        advice = f"name the classes in {root / 'classes.txt'}, one a line"
        return LabelMapPairs(pairs, known, meaning, advice, colors, by_color=colors is not PALETTE)

    lists = Lists.read(root, "Segmentation", maps, train, val, lambda name: name in maps)
    return check_label_maps(*lists.open(split, holdout), str(root), named=listing is not None)
