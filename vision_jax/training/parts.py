"""Parts of a model: modules by their names or by prefixes of them, and their variables.

`backbone` is a module, `stem` stands for stem_conv and stem_norm, `stage1` for stage1_block1 and the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from vision_jax.types import UserError

Variables = dict[str, Any]
Parts = tuple[str, ...]


def is_within(path: Iterable[str], parts: Parts) -> bool:
    """Whether a module or a variable is in one of the parts.

    Args:
        path: names, the outermost module's first.
        parts: names of parts.
    """
    return any(name == part or name.startswith(f"{part}_") for name in path for part in parts)


def split(variables: Variables, parts: Parts) -> tuple[Variables, Variables]:
    """Separates the variables of some parts from all others.

    Args:
        variables: nested dicts by collection; `params` is one.
        parts: names of parts; () for all of the model.

    Returns:
        (the parts' variables, the others); {} where there are no others.
    """
    if not parts:
        return variables, {}
    inside: dict[Any, Any] = {}
    outside: dict[Any, Any] = {}
    for path, leaf in flatten_dict(variables, keep_empty_nodes=True).items():
        (inside if is_within(path[1:], parts) else outside)[path] = leaf
    return unflatten_dict(inside), unflatten_dict(outside)


def joined(inside: Variables, outside: Variables) -> Variables:
    """The inverse of `split`."""
    if not outside:
        return inside
    flat = [flatten_dict(variables, keep_empty_nodes=True) for variables in (inside, outside)]
    return unflatten_dict({**flat[0], **flat[1]})


def check_partition(variables: Variables, parts: Mapping[str, Parts]) -> None:
    """Checks that each variable of a model belongs to one player.

    Args:
        variables: of the model.
        parts: each player's, by its name.

    Raises:
        UserError: naming a part that the model has not, a player without parameters, a module that no player
            trains, or one that two do.
    """
    paths = [tuple(map(str, path)) for path in flatten_dict(variables)]
    names = ", ".join(dict.fromkeys(path[1] for path in paths))
    for player, own in parts.items():
        for part in own:
            if not any(is_within(path[1:], (part,)) for path in paths):
                where = f"player {player}: no part of the model is called {part!r}"
                raise UserError(f"{where}; there are {names}")
        if not any(path[0] == "params" and is_within(path[1:], own) for path in paths):
            raise UserError(f"player {player}: its modules have no parameters; name some of {names}")
    for path in paths:
        owners = [player for player, own in parts.items() if is_within(path[1:], own)]
        if len(owners) != 1:
            module = "/".join(path[1:-1] or path[1:])
            by = "both " + " and ".join(owners[:2]) if owners else "no player"
            raise UserError(f"players: {module} is trained by {by}; name it in the modules of one")


def names_in(path: Sequence[Any]) -> list[str]:
    """The names in a path of `jax.tree_util`."""
    return [str(part.key) for part in path]
