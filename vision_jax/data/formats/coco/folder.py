"""Finds the splits of a COCO data set in the layouts that people keep.

    DIR/annotations/instances_train2017.json      DIR/train2017/...      COCO's own
    DIR/annotations/train.json (or DIR/train.json)   DIR/images/...      or DIR/train, DIR/images/train, DIR
    DIR/train/_annotations.coco.json              DIR/train/...          images beside the json
    DIR/annotations.json                          DIR/images/...         one split only
    FILE.json                                     beside it, or any of the above

Among files of one folder, `instances_*.json` come before others; captions, keypoints, panoptic and image
lists are passed over. The image folder is the first, of those named after the split, then `images`, then the
json's own and the data set's, that holds the file's first images. Which split trains and which is evaluated
on: `vision_jax.data.files.splits`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vision_jax.data.annotations.checks import warn_no_objects
from vision_jax.data.files.listing import find, folders, locate, shown_name
from vision_jax.data.files.other_formats import describe_folder, describe_json
from vision_jax.data.files.splits import choose, hold_out, report_single, role
from vision_jax.data.formats.coco.detection import CocoDetection, merged_classes
from vision_jax.data.formats.coco.file import CocoFile, read_json
from vision_jax.data.formats.coco.segmentation import CocoSegmentation, semantic_classes
from vision_jax.types import UserError

Source = TypeVar("Source")

_OTHER_KINDS = ("captions", "person_keypoints", "panoptic", "stuff", "image_info", "results")


def open_coco(
    location: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    images: str | None = None,
    holdout: float = 0.0,
) -> tuple[CocoDetection, CocoDetection]:
    """Opens a COCO data set.

    Args:
        location: its folder, or one json file.
        classes: the classes of a run; None takes the union of both files' classes.
        train, val: names of the splits, where the files' names do not tell.
        images: the image folder, relative to `location`; None searches.
        holdout: with one split only, the fraction of images kept back for evaluation; 0 uses all for both.

    Returns:
        (training, evaluation).

    Raises:
        UserError: no or several candidate files, or anything wrong in them.
    """
    return _open(CocoDetection, merged_classes, location, classes, train, val, images, holdout)


def open_coco_segmentation(
    location: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    images: str | None = None,
    holdout: float = 0.0,
) -> tuple[CocoSegmentation, CocoSegmentation]:
    """Opens the same data with a label for each pixel (`vision_jax.data.formats.coco.segmentation`).

    Args, returns and raises as `open_coco`; the data's own classes are background and those.
    """
    training, evaluated = _open(
        CocoSegmentation, semantic_classes, location, classes, train, val, images, holdout
    )
    warn_no_objects(training.objects, evaluated.objects, str(location))
    return training, evaluated


def _open(
    make: Callable[[CocoFile, Path, tuple[str, ...], Sequence[int] | None], Source],
    own_classes: Callable[[Sequence[CocoFile]], tuple[str, ...]],
    location: Path,
    classes: tuple[str, ...] | None,
    train: str | None,
    val: str | None,
    images: str | None,
    holdout: float,
) -> tuple[Source, Source]:
    """`open_coco` with what makes a split of (file, image folder, classes, positions to keep)."""
    splits = {_split_name(location): location} if location.is_file() else find_files(location)
    root = location
    if location.is_file():
        root = location.parent.parent if location.parent.name == "annotations" else location.parent
    train_name, val_name = choose(splits, str(location), train, val)
    files = {name: CocoFile.read(splits[name]) for name in dict.fromkeys((train_name, val_name))}
    image_folders = {
        name: root / images if images else find_images(root, name, file) for name, file in files.items()
    }
    if classes is None:
        if not any(file.categories for file in files.values()):
            raise UserError(f"{files[train_name].path}: its list 'categories' is empty: there is no class")
        classes = own_classes(list(files.values()))
    if train_name != val_name:
        return (
            make(files[train_name], image_folders[train_name], classes, None),
            make(files[val_name], image_folders[val_name], classes, None),
        )
    file, folder = files[train_name], image_folders[train_name]
    if holdout and len(file.images) > 1:
        kept, held = hold_out([image.name for image in file.images], holdout)
        return make(file, folder, classes, kept), make(file, folder, classes, held)
    report_single(str(location), file.path.name, len(file.images))
    source = make(file, folder, classes, None)
    return source, source


def find_files(root: Path) -> dict[str, Path]:
    """The annotation files of a data set's folder by split name.

    Raises:
        UserError: there are none, or they are another program's.
    """
    inside = [path for path in find(root, "*/*.json") if "annotations" in path.stem or role(path.stem)]
    for found in (find(root, "annotations/*.json"), find(root, "*.json"), inside):
        found = [path for path in found if _is_candidate(path)]
        found = [path for path in found if path.name.startswith("instances")] or found
        if len(found) > 1 and not any(role(_split_name(path)) for path in found):
            known = describe_json(read_json(found[0]))
            if known:
                raise UserError(f"{root}: {found[0].name}, the first of {len(found)} json files, is {known}")
        if found:
            return {_split_name(path): path for path in found}
    raise UserError(
        f"{root}: no COCO annotations: looked for annotations/instances_*.json, annotations/*.json, *.json "
        f"and */_annotations.coco.json{describe_folder(root)}"
    )


def find_images(root: Path, split: str, file: CocoFile) -> Path:
    """The folder that holds a file's images.

    Raises:
        UserError: no folder holds the first of them.
    """
    part = role(split)
    names = [split, *([part] if part else [])]
    image_folders = [root / name for name in names] + [root / "images" / name for name in names]
    if part:
        image_folders += [path for path in folders(root) if path.name.startswith(part)]
    beside = file.path.parent
    image_folders += [root / "images", beside, beside / "images", root / "JPEGImages", root]
    if not file.images:
        raise UserError(f"{file.path}: lists no images")
    probes = [file.images[i].name for i in sorted({0, len(file.images) // 2, len(file.images) - 1})]
    hits = {folder: len(probes) - len(locate(folder, probes)[1]) for folder in dict.fromkeys(image_folders)}
    best = max(hits, key=lambda folder: hits[folder])
    if not hits[best]:
        first = file.images[0]
        looked = ", ".join(str(folder) for folder in hits if folder.is_dir())
        raise UserError(
            f"{file.path}: its images are in none of {looked}; first: file_name "
            f"{shown_name(first.name)} (image id {first.id}); name their folder with ?images=FOLDER after "
            "the data set"
        )
    return best


def _is_candidate(path: Path) -> bool:
    return not path.name.startswith(_OTHER_KINDS)


def _split_name(path: Path) -> str:
    """What a file's name, or else its folder's, says about the split."""
    stem = path.stem.removeprefix("instances").strip("_-.")
    in_split_folder = role(path.parent.name) is not None and role(stem) is None
    return path.parent.name if in_split_folder else stem or path.stem
