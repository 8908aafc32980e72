"""What a sweep varies: a list of points, each a dict of arguments that differ from the experiment's own.

    SWEEP = grid(roi=["pool", "align"], seed=range(5))                    # 10 points
    SWEEP = grid({"train.steps": [100, 200]}, roi=["align"])              # a nested argument
    SWEEP = zip_(neck=["c4", "c5"], canvas=[(256, 256), (512, 512)])      # side by side: 2 points
    SWEEP = grid(roi=["pool"]) + cross(zip_(...), grid(seed=range(3)))    # lists: they add up

An experiment file without SWEEP is a sweep of one trial, which `--vary` makes more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import product
from typing import Any

from vision_jax.types import UserError

Point = dict[str, Any]

SEED = "seed"  # the argument over whose values results are averaged
_LONGEST_NAME = 120  # characters; folders may have 255 bytes, and a little is put before and behind


def grid(axes: Mapping[str, Iterable[Any]] | None = None, /, **more: Iterable[Any]) -> list[Point]:
    """Every combination of some values, the last axis fastest.

    Args:
        axes: values by argument, for nested arguments (`{"train.steps": [100, 200]}`).
        more: values by argument.

    Returns:
        The points; one without arguments if there are no axes.

    Raises:
        ValueError: an axis is empty, or given twice.
    """
    values = _listed(axes, more)
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def zip_(axes: Mapping[str, Iterable[Any]] | None = None, /, **more: Iterable[Any]) -> list[Point]:
    """The first value of each axis together, the second of each, and so on.

    Args:
        axes: values by argument, for nested arguments.
        more: values by argument.

    Returns:
        As many points as each axis has values.

    Raises:
        ValueError: axes of different lengths, an empty one, or one given twice.
    """
    values = _listed(axes, more)
    lengths = {name: len(listed) for name, listed in values.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"axes side by side need as many values each: {lengths}")
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def cross(*factors: Sequence[Point]) -> list[Point]:
    """Every combination of points, the last factor fastest; a later one's value of an argument wins."""
    return [
        {name: value for point in points for name, value in point.items()} for points in product(*factors)
    ]


def _listed(axes: Mapping[str, Iterable[Any]] | None, more: Mapping[str, Iterable[Any]]) -> dict[str, list]:
    twice = sorted(set(axes or {}) & set(more))
    if twice:
        raise ValueError(f"{twice[0]} is given twice")
    values = {name: list(values) for name, values in {**(axes or {}), **more}.items()}
    empty = [name for name, listed in values.items() if not listed]
    if empty:
        raise ValueError(f"{empty[0]} has no values to take")
    return values


def varied(points: Sequence[Point]) -> list[str]:
    """The arguments that points give, in the order in which they first appear."""
    return list(dict.fromkeys(name for point in points for name in point))


def with_axis(points: Sequence[Point], name: str, values: Sequence[Any]) -> list[Point]:
    """Another axis; where the points vary that argument already, these values replace its own.

    Args:
        points: the sweep so far.
        name: of the argument.
        values: that it takes.

    Returns:
        Each point with each of the values in turn, once; the values are the fastest.
    """
    found: list[Point] = []
    for point in points:
        for value in values:
            changed = {**point, name: value}  # a known argument keeps its position, and the trial its name
            if changed not in found:
                found.append(changed)
    return found


def check_points(points: Any, where: str) -> list[Point]:
    """A sweep as an experiment file gives it.

    Args:
        points: the file's SWEEP.
        where: the file, for messages.

    Returns:
        The points, each once.

    Raises:
        UserError: not a list of dicts with names of arguments.
    """
    if not isinstance(points, list | tuple) or not all(isinstance(point, Mapping) for point in points):
        raise UserError(
            f"{where}: SWEEP is a list of points, such as grid(roi=['pool', 'align'], seed=range(3))"
        )
    if not points:
        raise UserError(f"{where}: SWEEP has no points")
    found: list[Point] = []
    for point in points:
        wrong = [name for name in point if not isinstance(name, str)]
        if wrong:
            raise UserError(f"{where}: SWEEP varies {wrong[0]!r}: arguments have names")
        if dict(point) not in found:
            found.append(dict(point))
    return found


def point_name(point: Point) -> str:
    """A folder's name for a point: `roi=align,seed=0`.

    With a hash at its end where that is not the whole of it: shortened, letters replaced, lists in lists.
    """
    words = ",".join(f"{name}={_word(value)}" for name, value in point.items())
    name = re.sub(r"[^A-Za-z0-9=,.+_-]+", "-", words).strip("-.") or "default"
    nested = any(
        isinstance(item, list | tuple) for v in point.values() if isinstance(v, list | tuple) for item in v
    )
    if len(name) > _LONGEST_NAME or name != (words or "default") or nested:
        name = f"{name[: _LONGEST_NAME - 9]}-{sha256(repr(point).encode()).hexdigest()[:8]}"
    return name


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(_word, value)) or "none"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
