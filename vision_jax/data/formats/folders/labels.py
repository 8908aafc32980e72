"""Segmentation data as a folder of images and a folder of label maps.

    DIR/train/x.jpg          DIR/trainannot/x.png          the SegNet authors' CamVid (also val, test)
    DIR/images/train/x.jpg   DIR/labels/train/x.png        (or masks, annotations)
    DIR/images/x.jpg         DIR/labels/x.png              one split only

An image belongs to the label map of the same name, extension aside. A label map is a gray or palette image
of the image's size whose stored values are class indices. Which index means what:

1. 255 is void, unless the option `foreground=255` makes it the second of two classes, as masks of 0 and 255
   need it; so is the index `void=I`, if that option is given.
2. `classes.txt` in DIR names the indices, one a line, from 0. A line void, unlabelled, unlabeled, ignore or
   ignored (in brackets or not, in any case) makes its index void. The other lines are the classes, in order.
   Only what the file and rule 1 name may occur. CVAT's `labelmap.txt` and CamVid's `label_colors.txt` do the
   same, and give the colors by which label maps stored as RGB are read
   (`vision_jax.data.annotations.class_listing`).
3. Without that file the number of classes K is that of the run's classes where they are given (evaluation),
   else what the option `classes=K` says, else as many as the label maps of the opened splits hold (they are
   read once, for this). The classes are the first K indices that are not void by rule 1; the index after the
   last is void too.
4. Their names are the run's; else "class0", "class1", ... One data set is known by sight, where neither
   `classes.txt` nor options speak: label folders named `*annot` whose largest index is 11 are CamVid in the
   11 classes of Badrinarayanan, Kendall and Cipolla (2017, "SegNet"), index 11 being void. A warning says
   so.

With `classes.txt`, the run's classes are matched by name.

Errors (`UserError`): at opening, no such folder, no pairs in a split, a class that the run has not, nothing
but void or one class where the classes are to be counted, training maps in which one class alone occurs
beside 255 (`vision_jax.data.annotations.label_map_check`); on reading, and where rule 3 counts, a damaged
file, a JPEG, or a label map of colors that stand for nothing; on reading, an index that is neither class nor
void, a label map of another size than its image. (The image's EXIF rotation is applied unless only the
unturned picture fits the label map.)

Counted, and reported once for the split: images without a label map and label maps without an image, both
left out. Warnings: classes of which most do not occur (indices with gaps), and what `label_map_check` warns
of.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision_jax.data.annotations.boxes import Findings
from vision_jax.data.annotations.class_listing import find_listing
from vision_jax.data.annotations.label_map_pairs import LabelMapPairs, check_label_maps
from vision_jax.data.annotations.label_maps import (
    counted_meaning,
    named_meaning,
    of_run,
    voids,
    with_foreground,
)
from vision_jax.data.annotations.palette import PALETTE
from vision_jax.data.codecs.images import images_by_stem, read_indices
from vision_jax.data.files.listing import folders, listed
from vision_jax.data.files.other_formats import describe_folder
from vision_jax.data.files.splits import choose, hold_out, report_single
from vision_jax.types import UserError

CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian",
    "Bicyclist",
)  # fmt: skip

_LABEL_FOLDERS = ("labels", "masks", "annotations")


def open_label_folder(
    root: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    count: int | None = None,
    void: int | None = None,
    foreground: int | None = None,
    holdout: float = 0.0,
) -> tuple[LabelMapPairs, LabelMapPairs]:
    """Opens a folder of images and label maps.

    Args:
        root: the folder.
        classes: the classes of a run; None takes the data's own.
        train, val: names of the splits, where their names do not tell.
        count: K, where no `classes.txt` says it: the option `classes=K`.
        void: a void index besides 255.
        foreground: the index of the second of two classes, besides 1: 255 in masks of 0 and 255.
        holdout: with one split only, the fraction of images kept back for evaluation; 0 uses all for both.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    splits = _splits(root)
    train_name, val_name = choose(splits, str(root), train, val)
    pairs = {name: _pairs(*splits[name]) for name in dict.fromkeys((train_name, val_name))}
    listing = find_listing(root, PALETTE)
    if listing is not None:
        own, meaning = named_meaning(listing.names, void, str(listing.path))
        meaning = with_foreground(own, meaning, foreground, str(listing.path))
        names, meaning = of_run(own, meaning, classes, str(listing.path))
    else:
        maps = [labels for found in pairs.values() for _, labels in found]
        names, meaning = _counted_classes(root, maps, classes, count, void, foreground)

    def split(chosen: Sequence[tuple[Path, Path]]) -> LabelMapPairs:
        colors = None if listing is None else listing.colors
        return LabelMapPairs(chosen, names, meaning, colors=colors, by_color=colors is not None)

    if train_name != val_name:
        return check_label_maps(split(pairs[train_name]), split(pairs[val_name]), str(root))
    whole = pairs[train_name]
    if holdout and len(whole) > 1:
        kept, held = hold_out([image.name for image, _ in whole], holdout)
        return check_label_maps(split([whole[i] for i in kept]), split([whole[i] for i in held]), str(root))
    report_single(str(root), train_name, len(whole))
    source = split(whole)
    return check_label_maps(source, source, str(root))


def _splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """The image and label folders of each split."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    splits = {
        folder.name: (folder, root / f"{folder.name}annot")
        for folder in folders(root)
        if (root / f"{folder.name}annot").is_dir()
    }
    for name in _LABEL_FOLDERS:
        if splits:
            break
        images, labels = root / "images", root / name
        if images.is_dir() and labels.is_dir():
            inside = [folder.name for folder in folders(labels) if (images / folder.name).is_dir()]
            splits = {split: (images / split, labels / split) for split in inside}
            splits = splits or {"all": (images, labels)}
    if not splits:
        raise UserError(
            f"{root}: no image and label folders: expected train and trainannot (val and valannot), or "
            f"images/train and labels/train, or images and labels{describe_folder(root)}"
        )
    return splits


def _pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Images and label maps of one name; the lonely ones are reported and left out."""
    image_files, label_files = images_by_stem(images), images_by_stem(labels)
    findings = Findings(str(images))
    for stem, path in image_files.items():
        if stem not in label_files:
            findings.add(f"images without a label map in {labels}, left out", path.name)
    for stem, path in label_files.items():
        if stem not in image_files:
            findings.add(f"label maps in {labels} without an image, left out", path.name)
    pairs = [(path, label_files[stem]) for stem, path in image_files.items() if stem in label_files]
    if not pairs:
        raise UserError(f"{images}: none of its {len(image_files)} images has a label map in {labels}")
    findings.report()
    return pairs


def _counted_classes(
    root: Path,
    maps: Sequence[Path],
    classes: tuple[str, ...] | None,
    count: int | None,
    void: int | None,
    foreground: int | None,
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes and meanings where no file names them: rules 3 and 4 of the module's text."""
    if classes is not None:
        if count is not None and count > len(classes):
            raise UserError(
                f"{root}: has {count} classes, but this run knows {len(classes)}: {', '.join(classes)}"
            )
        count = len(classes)
    names = classes
    if count is None and foreground is not None:
        names, count = ("background", "foreground"), 2
    if count is None:
        names, count = _count(root, maps, void)
    names = names or tuple(f"class{label}" for label in range(count))
    return names, with_foreground(names, counted_meaning(count, void), foreground, str(root))


def _count(root: Path, maps: Sequence[Path], void: int | None) -> tuple[tuple[str, ...] | None, int]:
    """The number of classes, from all label maps; their names, where they are CamVid's."""
    known = voids(void)
    occurring: set[int] = set()
    for path in maps:
        occurring.update(np.flatnonzero(np.bincount(read_indices(path).ravel())).tolist())
    indices = sorted(occurring - known.keys())
    if not indices:
        raise UserError(
            f"{root}: all {len(maps)} label maps are void everywhere, so that they do not tell how many "
            f"classes there are: name them in a classes.txt, or add ?classes=K to the folder"
        )
    largest = indices[-1]
    if largest == len(CAMVID) and void is None and maps[0].parent.name.endswith("annot"):
        logging.getLogger("vision_jax").warning(
            "%s: no classes.txt; indices 0 to 11 in folders named *annot are taken for CamVid: %s; 11 is "
            "void. If they are not, write a classes.txt or open it with ?classes=12",
            root, ", ".join(CAMVID),
        )  # fmt: skip
        return CAMVID, len(CAMVID)
    count = sum(index not in known for index in range(largest + 1))
    if count < 2:
        masks = occurring & known.keys()
        raise UserError(
            f"{root}: all {len(maps)} label maps hold one class, index {largest}, and perhaps void "
            f"({sorted(known)}), from which there is nothing to learn: "
            + (
                f"if {max(masks)} is a mask's foreground, add ?foreground={max(masks)} after the folder, or "
                "store it as 1"
                if masks
                else "write the index of each pixel's class, 0, 1, ..."
            )
        )
    if 2 * len(indices) < count:
        logging.getLogger("vision_jax").warning(
            "%s: the label maps hold %d indices alone, %s, so that most of the %d classes 0 to %d never "
            "occur: if there are only %d classes, store them as 0, 1, 2, ...",
            root, len(indices), listed(indices), count, largest, len(indices),
        )  # fmt: skip
    return None, count
