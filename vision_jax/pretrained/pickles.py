"""Pickles that are read, not run.

A pickle is a program for a machine with a stack, and one of its instructions calls any function of any module
by name: loading a file of weights can delete a disk. The machine here builds numbers, text and containers; a
name it looks up in a table that it is given, and what that does not hold is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pickletools import genops
from typing import Any

_MOST_INSTRUCTIONS = 10_000_000  # a hundred times those of the largest networks
_KEYS = (str, int, float, bytes)  # a deep tuple of tuples as a key would end the process


class Refused(ValueError):
    """A pickle that asks for something that is not in the table; the message names it."""


@dataclass(frozen=True)
class Call:
    """A name in the table that a pickle may call."""

    function: Callable[..., Any]


def read_pickle(file: Any, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None) -> Any:
    """Builds what one pickle describes.

    Args:
        file: with `read`, `readline` and `tell`, at the pickle's beginning; left at its end. It must not
            reserve memory before it reads (`mmap` and `BytesIO` do not).
        names: "module.name" -> what stands for it: a `Call`, or a value.
        persistent: what stands for an object that is kept outside of the pickle, from its id.

    Returns:
        Numbers, text, bytes, None, lists, tuples, sets, dicts, and what the table made.

    Raises:
        Refused: it asks for a name that is not in the table, or to call what is no `Call`.
        ValueError: it is no pickle, or a damaged one.
    """
    machine = _Machine(names, persistent)
    try:
        for count, (instruction, argument, _) in enumerate(genops(file)):
            if count > _MOST_INSTRUCTIONS:
                raise ValueError(f"a pickle of more than {_MOST_INSTRUCTIONS:,} instructions")
            machine.do(instruction.name, argument)
        return machine.stack.pop()
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a damaged pickle ({error})") from error


class _Machine:
    """The stack, what is kept for later, and the instructions."""

    def __init__(self, names: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> None:
        self.names = names
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each mark
        self.memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _NEW:
            self.stack.append(_NEW[name]())
        elif name.endswith("PUT") or name == "MEMOIZE":
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name.endswith("GET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(self._named(*argument.split(" ", 1)))
        else:
            instruction = _INSTRUCTIONS.get(name)
            if instruction is None:
                raise Refused(f"the instruction {name}, which weights do not need")
            instruction(self)

    def _named(self, module: str, name: str) -> Any:
        whole = f"{module}.{name}"
        if whole not in self.names:
            raise Refused(whole)
        return self.names[whole]

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _above_mark(self) -> list[Any]:
        above, self.stack = self.stack, self.below.pop()
        return above

    def pop_mark(self) -> None:
        self._above_mark()

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._above_mark()

    def duplicate(self) -> None:
        self.stack.append(self.stack[-1])

    def tuple_to_mark(self) -> None:
        above = self._above_mark()
        self.stack.append(tuple(above))

    def short_tuple(self, length: int) -> None:
        if length > len(self.stack):
            raise ValueError("a damaged pickle (a tuple of what is not there)")
        self.stack[len(self.stack) - length :] = [tuple(self.stack[len(self.stack) - length :])]

    def list_to_mark(self) -> None:
        above = self._above_mark()
        self.stack.append(above)

    def dict_to_mark(self) -> None:
        above = self._above_mark()
        self.stack.append({})
        self._set(above)

    def frozenset_to_mark(self) -> None:
        above = self._above_mark()
        self.stack.append(frozenset(map(_as_key, above)))

    def append(self) -> None:
        value = self.stack.pop()
        self._container(list).append(value)

    def append_to_mark(self) -> None:
        above = self._above_mark()
        self._container(list).extend(above)

    def add_to_mark(self) -> None:
        above = self._above_mark()
        self._container(set).update(map(_as_key, above))

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def set_to_mark(self) -> None:
        self._set(self._above_mark())

    def _set(self, above: list[Any]) -> None:
        container = self._container(dict)
        for key, value in zip(above[::2], above[1::2], strict=True):
            container[_as_key(key)] = value

    def _container(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"a damaged pickle (items for {type(self.stack[-1]).__name__})")
        return self.stack[-1]

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(self._named(str(module), str(name)))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Call):
            raise Refused(f"a call of {type(function).__name__}")
        if not isinstance(arguments, tuple):
            raise ValueError("a damaged pickle (a call without arguments)")
        self.stack.append(function.function(*arguments))

    def build(self) -> None:
        """Attributes of an object: those of torch's ordered dicts are notes on versions, and are left out."""
        self.stack.pop()
        self._container(dict)

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise Refused("an object that is kept outside of the pickle")
        self.stack.append(self.persistent(self.stack.pop()))


def _as_key(key: Any) -> Any:
    if not isinstance(key, _KEYS):
        raise Refused(f"a key that is a {type(key).__name__}")
    return key


_IGNORED = {"PROTO", "FRAME", "STOP"}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_NEW: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_INSTRUCTIONS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine: machine.short_tuple(1),
    "TUPLE2": lambda machine: machine.short_tuple(2),
    "TUPLE3": lambda machine: machine.short_tuple(3),
    "LIST": _Machine.list_to_mark,
    "DICT": _Machine.dict_to_mark,
    "FROZENSET": _Machine.frozenset_to_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_to_mark,
    "ADDITEMS": _Machine.add_to_mark,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_to_mark,
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
