"""Which split of a data set is trained on and which is evaluated on.

Data sets name their splits in many ways: `train`, `train2017`, `training`; `val`, `valid`, `validation`,
`test`. The role of a split is read off its name; a reader's options `train=NAME` and `val=NAME` overrule.

A data set with one split only serves for both, with a warning: its figures then say how far the model
overfits, unless it is only evaluated. The option `holdout=F` keeps a fraction F back for evaluation instead.
Which records those are depends on their names alone, so it is the same on every machine and every time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from vision_jax.data.files.listing import listed
from vision_jax.types import UserError

_TRAINING = ("train", "training", "trainval")
_EVALUATION = ("val", "valid", "validation", "test", "testing")
_USUAL = {"train", "val", "trainval", "test"}


def role(name: str) -> str | None:
    """The role of a split, read off its name.

    Args:
        name: of a split, a folder or a file: "train2017", "instances_val2014", "valid".

    Returns:
        The word that tells: one of train, training, trainval, val, valid, validation, test, testing;
        None where there is none.
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((word for word in words if word in _TRAINING + _EVALUATION), None)


def choose(names: Iterable[str], where: str, train: str | None, val: str | None) -> tuple[str, str]:
    """Chooses the split to train on and the split to evaluate on.

    Args:
        names: the splits there are, at least one.
        where: the data set, for messages.
        train, val: the user's choice, or None.

    Returns:
        (train, val), names out of `names`, equal where there is one split only; that is for the caller to
        report, since some hold records out.

    Raises:
        UserError: a chosen split is not there, or several play the same part.
    """
    names = sorted(names)
    first = _one(names, where, train, _TRAINING, "train")
    second = _one(names, where, val, _EVALUATION, "val")
    if first is None and second is None and len(names) > 1:
        raise UserError(
            f"{where}: cannot tell which of {listed(names)} to train on and which to evaluate on: say so "
            f"with ?train=NAME&val=NAME after the folder"
        )
    chosen = first or second or names[0], second or first or names[0]
    unused = [name for name in names if name not in chosen]
    if unused:
        # Beside the usual pair, the usual others are no surprise.
        level = logging.INFO if {*names} <= _USUAL and chosen[0] != chosen[1] else logging.WARNING
        logging.getLogger("vision_jax").log(
            level,
            "%s: training on the split %s, evaluating on %s; not used: %s (?train=NAME&val=NAME after the "
            "folder chooses others)",
            where, *chosen, listed(unused),
        )  # fmt: skip
    return chosen


def _one(
    names: Sequence[str], where: str, wanted: str | None, roles: Sequence[str], option: str
) -> str | None:
    """The split asked for, else the one that plays the first of `roles` that any plays."""
    if wanted is not None:
        if wanted not in names:
            raise UserError(
                f"{where}: no split {wanted!r}, there is {', '.join(names)}{nearest(wanted, names)}"
            )
        return wanted
    for part in roles:
        found = [name for name in names if role(name) == part]
        # `train` itself comes before `train_aug`, and before `Train`
        found = [name for name in found if name == part] or (
            [name for name in found if name.lower() == part] or found
        )
        if len(found) > 1:
            raise UserError(
                f"{where}: {', '.join(found)} could all be the {option} split: choose one, for example with "
                f"?{option}={found[-1]} after the folder"
            )
        if found:
            return found[0]
    return None


def hold_out(names: Sequence[str], fraction: float) -> tuple[list[int], list[int]]:
    """Splits records by a hash of their names, at least one on each side where there are two.

    Args:
        names: of the records, unique and the same on every machine (no absolute paths).
        fraction: 0..1, how many to hold out; rounded to whole records.

    Returns:
        Positions to train on and positions held out, each ascending.
    """
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(os.fsencode(names[i])).digest())
    count = min(max(round(fraction * len(names)), 1), len(names) - 1)
    return sorted(order[count:]), sorted(order[:count])


def report_single(
    where: str, name: str, count: int, remedy: str = "?holdout=0.2 after the folder keeps a fifth back"
) -> None:
    """Warns that one split serves for training and for evaluation, and says how it need not."""
    logging.getLogger("vision_jax").warning(
        "%s: there is one split only, %s, of %d images: it serves for training and for evaluation, so what "
        "is trained on it is evaluated on what it has seen; %s",
        where, name, count, remedy,
    )  # fmt: skip


def nearest(word: str, words: Iterable[str]) -> str:
    """ "; did you mean X?" where something close to a mistyped word exists, else nothing."""
    close = get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]}?" if close else ""
