"""The ranges of options, as annotations of their types, checked in one function.

    def experiment(rois: Count = 128, nms_threshold: Fraction = 0.5, widths: Filled[Count] = (16,)): ...

`check_options` raises a `UserError` that names the option, its value and what is allowed, for the arguments
of a function; `check_fields` does so for a dataclass or a model. Options of other types are not checked.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from numbers import Real
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from vision_jax.types.errors import UserError


@dataclass(frozen=True)
class Limits:
    """The finite numbers from `low` to `high`.

    Attributes:
        low: the smallest one.
        high: the largest one.
        low_excluded: whether a number must be above `low`.
        high_excluded: whether it must be below `high`.
    """

    low: float = -math.inf
    high: float = math.inf
    low_excluded: bool = False
    high_excluded: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a value is a number, not a bool, within the limits."""
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return False
        value = float(value)
        above = value > self.low if self.low_excluded else value >= self.low
        return above and (value < self.high if self.high_excluded else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"a number above {self.low:g}" if self.low_excluded else f"{self.low:g} or more"
        low = "above" if self.low_excluded else "from"
        return f"a number {low} {self.low:g} {'to below' if self.high_excluded else 'to'} {self.high:g}"


@dataclass(frozen=True)
class Lengths:
    """How many values a tuple may have.

    Attributes:
        least: the smallest number.
        most: the largest number; any if None.
    """

    least: int = 1
    most: int | None = None

    def allows(self, value: Any) -> bool:
        """Whether a sequence has an allowed length."""
        return self.least <= len(value) and (self.most is None or len(value) <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return "one value or more" if self.least == 1 else f"{self.least} values or more"
        return f"{self.least} values" if self.least == self.most else f"{self.least} to {self.most} values"


@dataclass(frozen=True)
class Rising:
    """Values of which none is smaller than the one before."""

    def allows(self, value: Any) -> bool:
        """Whether a sequence never falls."""
        return all(a <= b for a, b in pairwise(value))

    def __str__(self) -> str:
        return "the smaller value first"


T = TypeVar("T")

Count = Annotated[int, Limits(1)]
Whole = Annotated[int, Limits(0)]
Seed = Annotated[int, Limits(0, 2**32 - 1)]
Positive = Annotated[float, Limits(0, low_excluded=True)]
NotNegative = Annotated[float, Limits(0)]
Fraction = Annotated[float, Limits(0, 1)]
PositiveFraction = Annotated[float, Limits(0, 1, low_excluded=True)]
FractionBelow1 = Annotated[float, Limits(0, 1, high_excluded=True)]
Filled = Annotated[tuple[T, ...], Lengths(1)]
Five = Annotated[tuple[T, ...], Lengths(5, 5)]


def check_options(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Checks a function's arguments against the rules of their types, as `check_options(itself, locals())`.

    Args:
        function: with the annotations.
        arguments: by name.

    Raises:
        UserError: naming the command line's option, its value and what is allowed.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    for name, value in arguments.items():
        if name in hints:
            _check(hints[name], value, lambda path, shown: f"--{path.replace('_', '-')} {shown}", name)


def check_fields(instance: Any, name: str | None = None) -> None:
    """Checks the fields of a dataclass (a model is one) against the rules of their types.

    Args:
        instance: of the dataclass.
        name: the owner of the fields, for the message; the class's name if None.

    Raises:
        UserError: naming the field, its value and what is allowed.
    """
    for field, hint in _ruled_fields(type(instance)).items():
        _check(
            hint,
            getattr(instance, field),
            lambda path, shown: f"{path} is {shown}",
            f"{name or type(instance).__name__}.{field}",
        )


@cache
def _ruled_fields(cls: type) -> Mapping[str, Any]:
    """The types of the fields that have rules."""
    names = {field.name for field in dataclasses.fields(cls)}
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):  # flax's own do not resolve in a model's module
        hints |= inspect.get_annotations(base, eval_str=True)
    return {name: hint for name, hint in hints.items() if name in names and _has_rule(hint)}


def _has_rule(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        return True
    if get_origin(hint) is Literal:
        return True
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return bool(_ruled_fields(hint))
    return any(_has_rule(member) for member in get_args(hint))


def _check(hint: Any, value: Any, told: Callable[[str, str], str], path: str, whole: Any = None) -> None:
    """Checks one value.

    Args:
        hint: its type.
        value: the value.
        told: (path, the value as text) -> how the message begins.
        path: the option's name.
        whole: the tuple that the value is of; None where it stands alone.
    """
    whole = value if whole is None else whole
    origin, members = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _check(members[0], value, told, path, whole)
        for rule in members[1:]:
            if isinstance(rule, Limits | Lengths | Rising) and not rule.allows(value):
                each = "" if whole is value else "for each value "
                raise UserError(f"{told(path, _shown(whole))}: give {each}{rule}")
    elif origin in (Union, types.UnionType):
        several = [member for member in members if member is not type(None)]
        if value is not None and len(several) == 1:
            _check(several[0], value, told, path, whole)
    elif origin is Literal:
        if value not in members:
            raise UserError(f"{told(path, _shown(whole))}: give one of {', '.join(map(str, members))}")
    elif origin in (tuple, Sequence) and isinstance(value, Sequence) and not isinstance(value, str):
        inner = members[:1] * len(value) if origin is Sequence or members[-1] is Ellipsis else members
        for member, item in zip(inner, value, strict=False):
            _check(member, item, told, path, whole)
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, hint):
        for field, of_field in _ruled_fields(hint).items():
            _check(of_field, getattr(value, field), told, f"{path}.{field}")


def _shown(value: Any) -> str:
    """As the command line has it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(_shown, value)) or "(no value)"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
