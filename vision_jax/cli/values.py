"""An experiment's arguments as JSON and back, guided by the types in its signature.

JSON has no tuples, dataclasses or paths; the annotation says which of them a list, an object or a
string stands for. Reading back what was written gives an equal value, or an error at the time of writing.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from vision_jax.types import UserError


def to_json(value: Any) -> Any:
    """Turns an argument into what `json.dump` takes.

    Args:
        value: a number, string, bool, None, path, enum member, dataclass, or a tuple, list or dict of those.

    Returns:
        Numbers, strings, bools, None, lists and dicts with string keys.

    Raises:
        UserError: for any other type.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: to_json(item) for key, item in value.items()}
    raise UserError(
        f"an argument of type {type(value).__name__} cannot be recorded in experiment.json: "
        "use numbers, strings, tuples, or dataclasses of them"
    )


def from_json(annotation: Any, value: Any, where: str = "value") -> Any:
    """Reads an argument back.

    Args:
        annotation: the parameter's type.
        value: what `to_json` gave.
        where: the argument's name, for messages.

    Returns:
        The argument, of the annotated type. A dataclass's fields that are missing take their defaults.

    Raises:
        UserError: if the value does not fit the annotation.
    """
    origin, members = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is typing.Annotated:
        return from_json(members[0], value, where)
    if origin in (Union, types.UnionType):
        return _from_union(members, value, where)
    if origin is Literal:
        if value not in members:
            raise UserError(f"{where} is {value!r}; it can be {', '.join(map(repr, members))}")
        return value
    if annotation is None or annotation is type(None):
        if value is None:
            return None
    elif dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if isinstance(value, Mapping):
            return _from_fields(annotation, value, where)
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        for member in annotation:
            if value in (member.name, member.value):
                return member
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif annotation is Path:
        if isinstance(value, str):
            return Path(value)
    elif annotation in (bool, int, str):
        if type(value) is annotation:
            return value
    elif (origin or annotation) in (tuple, list, Sequence):
        if isinstance(value, list):
            return _from_list(origin or annotation, members, value, where)
    elif (origin or annotation) in (dict, Mapping) and isinstance(value, Mapping):
        item = members[1] if members else Any
        return {key: from_json(item, v, f"{where}.{key}") for key, v in value.items()}
    name = getattr(annotation, "__name__", annotation) if origin is None else annotation
    raise UserError(f"{where} is {value!r}, which is not of type {name}")


def _from_union(members: tuple[Any, ...], value: Any, where: str) -> Any:
    fitting = [member for member in members if _fits(member, value, where)]
    if not fitting:
        raise UserError(f"{where} is {value!r}, which fits none of its types {members}")
    # A whole number is written alike as int and as float: keep the int where both are allowed.
    exact = [member for member in fitting if type(value) is member]
    return from_json((exact or fitting)[0], value, where)


def _fits(annotation: Any, value: Any, where: str) -> bool:
    try:
        from_json(annotation, value, where)
    except UserError:
        return False
    return True


def _from_fields(cls: type, value: Mapping[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls, include_extras=True)
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    unknown = sorted(set(value) - known)
    if unknown:
        raise UserError(f"{where}: {cls.__name__} has no field {', '.join(unknown)}")
    try:
        return cls(**{name: from_json(hints[name], v, f"{where}.{name}") for name, v in value.items()})
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error


def _from_list(kind: Any, members: tuple[Any, ...], value: list[Any], where: str) -> Any:
    if kind is tuple and members and members[-1] is not Ellipsis:
        if len(value) != len(members):
            raise UserError(f"{where} has {len(value)} values; it takes {len(members)}")
        pairs = zip(members, value, strict=True)
    else:
        pairs = ((members[0] if members else Any, v) for v in value)
    items = [from_json(member, v, f"{where}[{i}]") for i, (member, v) in enumerate(pairs)]
    return items if kind is list else tuple(items)
