"""Segmentation data as a folder of images and a folder of label maps.

    DIR/train/x.jpg          DIR/trainannot/x.png          the SegNet authors' CamVid (also val, test)
    DIR/images/train/x.jpg   DIR/labels/train/x.png        (or masks, annotations)
    DIR/images/x.jpg         DIR/labels/x.png              one split only

An image belongs to the label map of the same name, extension aside. A label map is a grey or palette image
of the image's size whose stored values are class indices. Which index means what:

1. 255 is void, always; so is the index `void=I`, if that option is given.
2. `classes.txt` in DIR names the indices, one a line, from 0. A line void, unlabelled, unlabeled or ignore
   (in brackets or not, in any case) makes its index void. The other lines are the classes, in order. Only
   what the file and rule 1 name may occur.
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
but void or one class where the classes are to be counted; on reading, and where rule 3 counts, a damaged
file or a label map of colours; on reading, an index that is neither class nor void, a label map of another
size than its image.
(The image's EXIF rotation is applied unless only the unturned picture fits the label map.)

Counted, and reported once for the split: images without a label map and label maps without an image, both
left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.annotations import Findings
from vision_jax.data.images import images_by_stem, largest_index, read_image, read_indices, read_size
from vision_jax.data.label_maps import counted_meaning, listed_meaning, of_run, to_labels, voids
from vision_jax.data.splits import choose, hold_out, report_single
from vision_jax.types import UserError

CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian",
    "Bicyclist",
)  # fmt: skip

_LABEL_FOLDERS = ("labels", "masks", "annotations")


class LabelFolder:
    """Images with their label maps: a `SegmentationSource`.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        classes: tuple[str, ...],
        meaning: Mapping[int, int],
        advice: str = "name them in a classes.txt, or add ?void={} to the folder if that is void",
        colours: UInt8[np.ndarray, "n 3"] | None = None,
    ) -> None:
        """Takes pairs of files.

        Args:
            pairs: (image, label map) of each example.
            classes: class names in label order.
            meaning: {stored index: label}, -1 for void; other indices are errors when met.
            advice: what to do about those, `{}` standing for the first.
            colours: of the indices, by which label maps stored as RGB are read; None refuses them.
        """
        self.classes = classes
        self._pairs = tuple(pairs)
        self._meaning = dict(meaning)
        self._advice = advice
        self._colours = colours

    def __len__(self) -> int:
        return len(self._pairs)

    def name(self, index: int) -> str:
        """The image file's name."""
        return self._pairs[index][0].name

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels.

        Raises:
            UserError: the file is unreadable, or its size is not that of the label map.
        """
        image, labels = self._pairs[index]
        return read_image(image, read_size(labels, upright=False), whose=f"its label map {labels}")

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """The label map: int32, 0..K-1, -1 where void.

        Raises:
            UserError: the file is unreadable, or holds an index that means nothing.
        """
        path = self._pairs[index][1]
        return to_labels(read_indices(path, self._colours), self._meaning, str(path), self._advice)


def open_label_folder(
    root: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    count: int | None = None,
    void: int | None = None,
    holdout: float = 0.0,
) -> tuple[LabelFolder, LabelFolder]:
    """Opens a folder of images and label maps.

    Args:
        root: the folder.
        classes: the classes of a run; None takes the data's own.
        train, val: names of the splits, where their names do not tell.
        count: K, where no `classes.txt` says it: the option `classes=K`.
        void: a void index besides 255.
        holdout: with one split only, the fraction of images kept back for judging; 0 uses all for both.

    Returns:
        (training, judging).

    Raises:
        UserError: see the module's text.
    """
    folders = _splits(root)
    train_name, val_name = choose(folders, str(root), train, val)
    pairs = {name: _pairs(*folders[name]) for name in dict.fromkeys((train_name, val_name))}
    listing = root / "classes.txt"
    if listing.is_file():
        names, meaning = of_run(*listed_meaning(listing, void), classes, str(listing))
    else:
        maps = [labels for found in pairs.values() for _, labels in found]
        names, meaning = _counted_classes(root, maps, classes, count, void)

    if train_name != val_name:
        return (
            LabelFolder(pairs[train_name], names, meaning),
            LabelFolder(pairs[val_name], names, meaning),
        )
    whole = pairs[train_name]
    if holdout and len(whole) > 1:
        kept, held = hold_out([image.name for image, _ in whole], holdout)
        return (
            LabelFolder([whole[i] for i in kept], names, meaning),
            LabelFolder([whole[i] for i in held], names, meaning),
        )
    report_single(str(root), train_name, len(whole))
    source = LabelFolder(whole, names, meaning)
    return source, source


def _splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """The image and label folders of each split."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    splits = {
        folder.name: (folder, root / f"{folder.name}annot")
        for folder in sorted(root.iterdir())
        if (root / f"{folder.name}annot").is_dir()
    }
    for name in _LABEL_FOLDERS:
        if splits:
            break
        images, labels = root / "images", root / name
        if images.is_dir() and labels.is_dir():
            inside = sorted(folder.name for folder in labels.iterdir() if folder.is_dir())
            inside = [split for split in inside if (images / split).is_dir()]
            splits = {split: (images / split, labels / split) for split in inside}
            splits = splits or {"all": (images, labels)}
    if not splits:
        raise UserError(
            f"{root}: no image and label folders: expected train and trainannot (val and valannot), or "
            f"images/train and labels/train, or images and labels"
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
    root: Path, maps: Sequence[Path], classes: tuple[str, ...] | None, count: int | None, void: int | None
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes and meanings where no `classes.txt` names them: rules 3 and 4 of the module's text."""
    if classes is not None:
        if count is not None and count > len(classes):
            raise UserError(
                f"{root}: has {count} classes, but this run knows {len(classes)}: {', '.join(classes)}"
            )
        count = len(classes)
    names = classes
    if count is None:
        known = frozenset(voids(void))
        largest = max((largest_index(path, known) for path in maps), default=-1)
        if largest < 0:
            raise UserError(
                f"{root}: all {len(maps)} label maps are void everywhere, so that they do not tell how many "
                f"classes there are: name them in a classes.txt, or add ?classes=K to the folder"
            )
        if largest == len(CAMVID) and void is None and maps[0].parent.name.endswith("annot"):
            names, count = CAMVID, len(CAMVID)
            logging.getLogger("vision_jax").warning(
                "%s: no classes.txt; indices 0 to 11 in folders named *annot are taken for CamVid: %s; 11 is "
                "void. If they are not, write a classes.txt or open it with ?classes=12",
                root, ", ".join(CAMVID),
            )  # fmt: skip
        else:
            count = sum(index not in known for index in range(largest + 1))
            if count < 2:
                raise UserError(
                    f"{root}: all {len(maps)} label maps hold one class, index {largest}, and perhaps void "
                    f"({sorted(known)}), from which there is nothing to learn: store a mask's foreground as "
                    f"1, or name the classes in a classes.txt"
                )
    return names or tuple(f"class{label}" for label in range(count)), counted_meaning(count, void)
