"""Where a network's tensors are in what was saved, and their names without what training scripts add.

A checkpoint holds an optimizer, counters and scores beside the network, some levels deep. Each wrapper of
torch (DataParallel, DistributedDataParallel, `torch.compile`, FSDP, activation checkpointing, averaging) adds
a part to every name inside it; Lightning and others call the network `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_OUTER = ("model.", "state_dict.")
_AVERAGED = "n_averaged"  # beside the `module.` of torch's AveragedModel: how many it has averaged
_DEEPEST = 4  # levels of dicts that are looked into


def network_of(whole: Any, is_tensor: Callable[[Any], bool]) -> dict[str, Any]:
    """The one dict of a network's tensors by name, in what a file holds.

    Of all dicts of the outermost level that has any, it is the one with names such as "conv1.weight", which
    neither optimizers nor scores have; where no dict has them, the one with any tensor.

    Args:
        whole: numbers, text, containers and tensors.
        is_tensor: whether a value is one.

    Returns:
        Its tensors; what else is in that dict is left out.

    Raises:
        ValueError: there is none, or there are several.
    """
    levels = list(_levels(whole, is_tensor))
    for test in (_has_layers, bool):
        for level in levels:
            found = {where: tensors for where, tensors in level.items() if test(tensors)}
            if len(found) > 1:
                raise ValueError(f"it has tensors in {', '.join(found)}: save one of them alone")
            if found:
                return next(iter(found.values()))
    raise ValueError("there is no dict of tensors in it")


def _levels(whole: Any, is_tensor: Callable[[Any], bool]) -> list[dict[str, dict[str, Any]]]:
    """The tensors of each dict by the dict's name, level by level."""
    level, seen, levels = {"": whole}, set(), []
    for _ in range(_DEEPEST):
        mappings = {w: v for w, v in level.items() if isinstance(v, Mapping) and id(v) not in seen}
        seen |= set(map(id, mappings.values()))  # a dict may hold itself
        levels.append(
            {
                where: {n: each for n, each in value.items() if isinstance(n, str) and is_tensor(each)}
                for where, value in mappings.items()
            }
        )
        level = {
            f"{where}.{name}".lstrip("."): each
            for where, value in mappings.items()
            for name, each in value.items()
        }
    return levels


def _has_layers(tensors: Mapping[str, Any]) -> bool:
    return any(name.endswith(".weight") for name in tensors)


def plain_names(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors by the names that they have without wrappers.

    `module.`, `_orig_mod.` and their like are taken off wherever they are in a name, in any order; `model.`
    and `state_dict.` where every name begins with them.

    Args:
        tensors: by name.

    Returns:
        The same tensors in the same order; names that would become equal are left as they are.
    """
    found = dict(tensors)
    if any(name.startswith("module.") for name in found):
        found.pop(_AVERAGED, None)
    found = _renamed(found, lambda name: ".".join(p for p in name.split(".") if p not in _WRAPPERS))
    while outer := next((o for o in _OUTER if found and all(n.startswith(o) for n in found)), None):
        shorter = _renamed(found, lambda name, outer=outer: name.removeprefix(outer))
        if shorter.keys() == found.keys():
            break
        found = shorter
    return found


def without_first_part(tensors: Mapping[str, T]) -> dict[str, T] | None:
    """The tensors by their names without a first part that all share ("backbone."); None where none is."""
    first = {name.partition(".")[0] for name in tensors}
    if len(first) != 1 or not all("." in name for name in tensors):
        return None
    return {name.partition(".")[2]: tensor for name, tensor in tensors.items()}


def _renamed(tensors: dict[str, T], rename: Callable[[str], str]) -> dict[str, T]:
    found = {rename(name) or name: tensor for name, tensor in tensors.items()}
    return found if len(found) == len(tensors) else tensors
