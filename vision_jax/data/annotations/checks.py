"""What is said of any data set when it is opened: classes that look alike, and splits with nothing in them.

Each is one warning of the logger "vision_jax"; only masks that are nowhere known are an error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from vision_jax.types import UserError

_logger = logging.getLogger("vision_jax")


def warn_similar_classes(classes: Sequence[str], where: str) -> None:
    """Warns of classes whose names differ in case or spaces alone.

    Args:
        classes: names of all classes.
        where: the data set, for messages.
    """
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(name.split()).casefold(), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            _logger.warning(
                "%s: the classes %s differ in case or spaces alone: if they are one class, rename them",
                where, ", ".join(map(repr, names)),
            )  # fmt: skip


def warn_single_class(train: Any, val: Any, where: str) -> None:
    """Warns where images are to be told apart by class, and there is one class."""
    if len(train.classes) == 1:
        _logger.warning(
            "%s: there is one class only, %r: there is nothing to learn, and every image will be right",
            where, train.classes[0],
        )  # fmt: skip


def nothing_wanted(source: Any) -> str | None:
    """Why a source has no object to be found, and what to do; None where it has one.

    Args:
        source: a `DetectionSource`; records are read until one has such an object, no pixels.
    """
    count = len(source)
    ignored = 0
    for index in range(count):
        ignore = source.record(index).ignore
        if not ignore.all():
            return None
        ignored += len(ignore)
    if ignored:
        return (
            f"all {ignored} objects of its {count} images are marked to be ignored (iscrowd, ignore, "
            "difficult), so that there is none to be found: CVAT writes masks drawn with its brush as "
            "crowds; set iscrowd to 0"
        )
    return f"its {count} images have no object: are the annotations those of these images?"


def warn_no_objects(train: Any, val: Any, where: str) -> None:
    """Warns of splits in which no object is to be found."""
    splits = {"training split": train} | ({} if val is train else {"evaluation split": val})
    for name, source in splits.items():
        reason = nothing_wanted(source)
        if reason is not None:
            _logger.warning("%s, %s: %s", where, name, reason)


def refuse_without_masks(source: Any, where: str) -> None:
    """Refuses a split with objects, of none of which the outline is known.

    Args:
        source: an `InstanceSource` with `outlined(index)`, of each of an image's objects whether it is known.
        where: the split, for messages.

    Raises:
        UserError: no outline is known.
    """
    objects = 0
    for index in range(len(source)):
        known = source.outlined(index)
        if known.any():
            return
        objects += len(known)
    if objects:
        raise UserError(
            f"{where}: none of its {objects} objects has an outline or mask (segmentation): masks cannot be "
            "learned from boxes. Export the data with outlines, or train a detector of boxes"
        )
