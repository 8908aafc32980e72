"""Nested structs of numpy arrays, walked without JAX: examples and batches, in any process that loads data.

A node is a dataclass, a mapping, a tuple or a list; everything else is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np


def map_arrays(change: Callable[[np.ndarray], np.ndarray], tree: Any) -> Any:
    """The same tree with each of its arrays changed; other leaves stay as they are."""
    if isinstance(tree, np.ndarray):
        return change(tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{f.name: map_arrays(change, getattr(tree, f.name)) for f in fields(tree)})
    if isinstance(tree, Mapping):
        return type(tree)({name: map_arrays(change, part) for name, part in tree.items()})  # pyright: ignore
    if isinstance(tree, tuple | list):
        parts = [map_arrays(change, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def arrays_of(tree: Any) -> Iterator[np.ndarray]:
    """The arrays of a tree, in the order of its fields."""
    if isinstance(tree, np.ndarray):
        yield tree
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from arrays_of(getattr(tree, field.name))
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from arrays_of(part)
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from arrays_of(part)
