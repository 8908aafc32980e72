"""What the stored indices of a label map mean: which class each is, and which are void.

255 is void, unless it is said to be the foreground of masks; so is the index `void`, where one is given. A
class named void, unlabelled, unlabeled, ignore or ignored (in brackets or not, in any case) is void too.
Where classes have no names, they are the first K indices that are not void by the first rule, and the index
after the last is void.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from vision_jax.data.annotations.boxes import labels_by_name
from vision_jax.data.files.listing import listed
from vision_jax.types import UserError

VOID = 255

_VOID_NAMES = ("void", "unlabelled", "unlabeled", "ignore", "ignored")


def voids(void: int | None) -> dict[int, int]:
    """The indices that are void whatever else is said, each with its label, -1."""
    return {VOID: -1} if void is None else {VOID: -1, void: -1}


def named_meaning(
    names: Sequence[str], void: int | None, where: str
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Classes and meanings where each index has a name.

    Args:
        names: of the indices, from 0.
        void: a void index besides 255.
        where: the file that names them, for messages.

    Returns:
        The classes in label order, and {index: label}, -1 for void.

    Raises:
        UserError: an empty name, a name that occurs twice, or no class.
    """
    meaning, classes = voids(void), []
    for index, name in enumerate(names):
        if index == void or name.strip("()[]").lower() in _VOID_NAMES:
            meaning[index] = -1
            continue
        if not name or name in classes:
            raise UserError(f"{where}, line {index + 1}: {name!r}: each line must name one class, once")
        meaning[index] = len(classes)
        classes.append(name)
    if not classes:
        raise UserError(f"{where}: names no classes")
    return tuple(classes), meaning


def with_foreground(
    classes: Sequence[str], meaning: Mapping[int, int], foreground: int | None, where: str
) -> dict[int, int]:
    """Meanings in which an index stands for the second of two classes, as 255 in masks of 0 and 255.

    Args:
        classes: of the data.
        meaning: {index: label}, -1 for void.
        foreground: the index; None changes nothing.
        where: the data, for messages.

    Raises:
        UserError: there are not two classes.
    """
    if foreground is None:
        return dict(meaning)
    if len(classes) != 2:
        raise UserError(
            f"{where}: ?foreground={foreground} is for masks of two classes, background and foreground, but "
            f"there are {len(classes)}: {listed(classes)}"
        )
    return {**meaning, foreground: 1}


def of_run(
    own: tuple[str, ...], meaning: Mapping[int, int], classes: tuple[str, ...] | None, where: str
) -> tuple[tuple[str, ...], dict[int, int]]:
    """Takes named classes to those of a run, by name.

    Args:
        own: the names of a source's classes.
        meaning: {index: label among `own`}, -1 for void.
        classes: those of the run; None leaves all as it is.
        where: the source, for messages.

    Returns:
        The classes, and {index: label among them}, -1 for void.

    Raises:
        UserError: a class that is not in `classes`.
    """
    if classes is None:
        return own, dict(meaning)
    label = labels_by_name(own, classes, where)
    return classes, {index: label[own[old]] if old >= 0 else -1 for index, old in meaning.items()}


def counted_meaning(count: int, void: int | None) -> dict[int, int]:
    """Meanings where it is only known how many classes there are: {index: label}, -1 for void."""
    meaning = voids(void)
    index = 0
    for label in range(count):
        while index in meaning:
            index += 1
        meaning[index] = label
    meaning.setdefault(index + 1, -1)
    return meaning


def to_labels(
    stored: Int[np.ndarray, "h w"], meaning: Mapping[int, int], where: str, advice: str
) -> Int[np.ndarray, "h w"]:
    """Looks a label map's indices up.

    Args:
        stored: indices, at least 0.
        meaning: {index: label}, -1 for void.
        where: the label map, for messages.
        advice: what to do about an index that means nothing; `{}` in it stands for the index.

    Returns:
        int32 labels, 0..K-1, -1 where void.

    Raises:
        UserError: an index that means nothing.
    """
    table = np.full(max([*meaning, int(stored.max(initial=0))]) + 1, -2, np.int32)
    for value, label in meaning.items():
        table[value] = label
    labels = table[stored]
    if labels.min(initial=0) == -2:
        odd = np.unique(stored[labels == -2]).tolist()
        void = sorted(value for value, label in meaning.items() if label < 0)
        known = sorted(meaning.keys() - void)
        raise UserError(
            f"{where}: holds the indices [{listed(odd)}], but the classes are {known[0]} to {known[-1]} and "
            f"void is {void}: {advice.format(odd[0])}"
        )
    return labels
