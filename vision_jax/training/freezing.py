"""Frozen parts of a model: no gradient, no update, no new statistics.

A part is a module by its name or by a prefix of it: `backbone`, `stem` (stem_conv, stem_norm), `stage1`
(stage1_block1, ...). A frozen module is called as in evaluation: batch norms use their running statistics.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn
import jax

from vision_jax.types import UserError

Freeze = tuple[str, ...]


def is_frozen(path: Iterable[str], freeze: Freeze) -> bool:
    """Whether a module or a parameter is in a frozen part.

    Args:
        path: names, the outermost module's first.
        freeze: names of parts.
    """
    return any(name == part or name.startswith(f"{part}_") for name in path for part in freeze)


def frozen(params: Any, freeze: Freeze) -> Any:
    """Which parameters are frozen: a bool for each leaf, in a tree of the same structure."""
    return jax.tree_util.tree_map_with_path(lambda path, _: is_frozen(_names(path), freeze), params)


def check_freeze(params: Any, freeze: Freeze) -> None:
    """Checks that each name is that of a part, and that some parameters are left to train.

    Raises:
        UserError: naming the parts that the model has.
    """
    paths = [_names(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for part in freeze:
        if not any(is_frozen(path, (part,)) for path in paths):
            there = dict.fromkeys(name.split("_")[0] for path in paths for name in path[:-1][:2])
            raise UserError(f"freeze: no part of the model is called {part!r}; there are {', '.join(there)}")
    if all(is_frozen(path, freeze) for path in paths):
        raise UserError(f"freeze: {', '.join(freeze)} are all of the model; nothing is left to train")


def frozen_in_eval_mode(freeze: Freeze) -> AbstractContextManager[Any]:
    """A context in which frozen modules are called with `train=False`, whatever they are given."""
    return nn.intercept_methods(_EvalMode(freeze)) if freeze else nullcontext()


_EVAL_ARGUMENTS = {"train": False, "use_running_average": True, "deterministic": True}


class _EvalMode:
    """An interceptor of Flax methods: replaces the arguments of frozen modules that mean training."""

    def __init__(self, freeze: Freeze) -> None:
        self.freeze = freeze

    def __call__(
        self, call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], context: Any
    ) -> Any:
        if not is_frozen(context.module.path, self.freeze):
            return call(*args, **kwargs)
        method = inspect.signature(getattr(type(context.module), context.method_name))
        given = method.bind_partial(context.module, *args, **kwargs)
        given.apply_defaults()
        for name, value in _EVAL_ARGUMENTS.items():
            if given.arguments.get(name) is not None:
                given.arguments[name] = value
        return call(*given.args[1:], **given.kwargs)


def _names(path: Sequence[Any]) -> list[str]:
    """The names in a path of `jax.tree_util`."""
    return [str(part.key) for part in path]
