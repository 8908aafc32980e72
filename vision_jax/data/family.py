"""What the data of one task family are: how they are read, checked and stored.

A family is one value, which a task hands over to `vision_jax.data.open`, and the name by which formats state
how they open it. Those of this project are files in `vision_jax.data.families`, found by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from vision_jax.data.sources import Source
from vision_jax.data.storage.layout import RecordLayout
from vision_jax.types import UserError

S = TypeVar("S", bound=Source)


@dataclass(frozen=True)
class Family(Generic[S]):
    """A kind of data that tasks are trained on; S is the type of its sources.

    Attributes:
        name: of the task, as formats and `vision-jax convert-data` call it.
        read: (source, index) -> example.
        check: (training, evaluation, spec); warns of what is doubtful about files that people made, and
            raises a `UserError` for what cannot be trained on.
        layout: of its records; None where it cannot be converted.
    """

    name: str
    read: Callable[[S, int], Any]
    check: Callable[[S, S, str], None] = lambda train, val, spec: None
    layout: RecordLayout | None = None


def family_named(name: str) -> Family[Any]:
    """The family `NAME` of the module `vision_jax.data.families.name`.

    Raises:
        UserError: there is none.
    """
    room = import_module("vision_jax.data.families")
    known = sorted(module.name for module in iter_modules(room.__path__))
    if name not in known:
        raise UserError(f"there is no task {name!r}: give one of {', '.join(known)}")
    return getattr(import_module(f"{room.__name__}.{name}"), name.upper())
