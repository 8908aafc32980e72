"""Classification data as folders of images, a folder for each class.

    DIR/train/CLASS/.../x.jpg   DIR/val/CLASS/.../y.png       (or valid, validation, test)
    DIR/CLASS/.../x.jpg                                       without splits

A folder is a split if its name says so and it holds folders; others beside it are passed over, with a
warning. Hidden and system folders (`vision_jax.data.files.listing`) are neither splits nor classes. The
classes are the folders' names in all splits together, sorted; a class may have no image. Where
the run's classes are given, labels go by name. Without splits, a fifth of each class's images, chosen by a
hash of their names, is kept back for evaluation; `holdout=F` sets the fraction and `holdout=0` uses every
image for both. Files that are not images are passed over; pixels are read, and bad files found, only when
asked for.

Errors (`UserError`), found at opening: no such folder, no class folders, no images in a split, a class that
the run has not.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.annotations.boxes import labels_by_name
from vision_jax.data.codecs.images import is_image, read_image
from vision_jax.data.files.listing import files_below, folders, listed
from vision_jax.data.files.splits import choose, hold_out, report_single, role
from vision_jax.data.records import ClassificationRecord
from vision_jax.types import UserError


class ImageFolder:
    """One split of a folder of class folders: a `ClassificationSource`.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(self, root: Path, files: Mapping[str, Sequence[str]], classes: tuple[str, ...]) -> None:
        """Takes the files of a split.

        Args:
            root: the folder to which file names are relative.
            files: by class name; they are kept in this order.
            classes: class names in label order.

        Raises:
            UserError: no files, or a class with files that is not in `classes`.
        """
        self.classes = classes
        self._root = root
        label = labels_by_name([name for name, found in files.items() if found], classes, str(root))
        self._names = tuple(file for found in files.values() for file in found)
        self._labels = tuple(label[name] for name, found in files.items() for _ in found)
        if not self._names:
            raise UserError(f"{root}: no images in its class folders {', '.join(files)}")

    def __len__(self) -> int:
        return len(self._names)

    def files(self) -> list[Path]:
        """Every image."""
        return [self._root / name for name in self._names]

    def record(self, index: int) -> ClassificationRecord:
        """The label of one image; its id is the index, its name the path inside the split."""
        return ClassificationRecord(id=index, name=self._names[index], label=self._labels[index])

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels.

        Raises:
            UserError: the file is unreadable.
        """
        return read_image(self._root / self._names[index])


def open_image_folder(
    root: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    holdout: float = 0.2,
) -> tuple[ImageFolder, ImageFolder]:
    """Opens a folder of class folders.

    Args:
        root: the folder.
        classes: the classes of a run; None takes the folders' names.
        train, val: names of the split folders, where their names do not tell.
        holdout: without splits, the fraction of each class kept back for evaluation; 0 uses all for both.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    names = _folders(root)
    splits = [name for name in names if name in (train, val) or (role(name) and folders(root / name))]
    if splits:
        others = [name for name in names if name not in splits]
        if others:
            logging.getLogger("vision_jax").warning(
                "%s: the folders %s beside the splits %s are passed over",
                root, listed(map(repr, others)), ", ".join(map(repr, splits)),
            )  # fmt: skip
        train_name, val_name = choose(splits, str(root), train, val)
        files = {name: _class_files(root / name) for name in dict.fromkeys((train_name, val_name))}
    else:
        train_name = val_name = "."
        files = {".": _class_files(root)}
    if classes is None:
        classes = tuple(sorted({name for found in files.values() for name in found}))
    if train_name != val_name:
        return (
            ImageFolder(root / train_name, files[train_name], classes),
            ImageFolder(root / val_name, files[val_name], classes),
        )
    whole = files[train_name]
    folder = root / train_name
    if holdout and not splits:
        halves: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
        for name, found in whole.items():
            for half, rows in zip(halves, hold_out(found, holdout), strict=True):
                half[name] = [found[row] for row in rows]
        return ImageFolder(folder, halves[0], classes), ImageFolder(folder, halves[1], classes)
    source = ImageFolder(folder, whole, classes)
    report_single(str(root), "all" if train_name == "." else train_name, len(source))
    return source, source


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    return [path.name for path in folders(root)]


def _class_files(root: Path) -> dict[str, list[str]]:
    """The images below each class folder, as sorted paths relative to `root`."""
    names = _folders(root)
    if not names:
        raise UserError(f"{root}: no class folders: expected {root}/CLASS/IMAGE")
    return {
        name: sorted(p.relative_to(root).as_posix() for p in files_below(root / name) if is_image(p))
        for name in names
    }
