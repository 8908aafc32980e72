"""Frozen parts of a model: no gradient, no update, no new statistics.

A frozen module is called as in evaluation: batch norms use their running statistics.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn
import jax

from vision_jax.training.parts import Parts, is_within, names_in
from vision_jax.types import UserError


def frozen(params: Any, freeze: Parts) -> Any:
    """Which parameters are frozen: a bool for each leaf, in a tree of the same structure."""
    return jax.tree_util.tree_map_with_path(lambda path, _: is_within(names_in(path), freeze), params)


def check_freeze(params: Any, freeze: Parts) -> None:
    """Checks that each name is that of a part, and that some parameters are left to train.

    Raises:
        UserError: naming the parts that the model has.
    """
    paths = [names_in(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for part in freeze:
        if not any(is_within(path, (part,)) for path in paths):
            there = dict.fromkeys(name.split("_")[0] for path in paths for name in path[:-1][:2])
            raise UserError(f"freeze: no part of the model is called {part!r}; there are {', '.join(there)}")
    if all(is_within(path, freeze) for path in paths):
        raise UserError(f"freeze: {', '.join(freeze)} are all of the model; nothing is left to train")


def frozen_in_eval_mode(freeze: Parts) -> AbstractContextManager[Any]:
    """A context in which frozen modules are called with `train=False`, whatever they are given."""
    return nn.intercept_methods(_EvalMode(freeze)) if freeze else nullcontext()


_EVAL_ARGUMENTS = {"train": False, "use_running_average": True, "deterministic": True}


class _EvalMode:
    """An interceptor of Flax methods: replaces the arguments of frozen modules that mean training."""

    def __init__(self, freeze: Parts) -> None:
        self.freeze = freeze

    def __call__(
        self, call: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], context: Any
    ) -> Any:
        if not is_within(context.module.path, self.freeze):
            return call(*args, **kwargs)
        method = inspect.signature(getattr(type(context.module), context.method_name))
        given = method.bind_partial(context.module, *args, **kwargs)
        given.apply_defaults()
        for name, value in _EVAL_ARGUMENTS.items():
            if given.arguments.get(name) is not None:
                given.arguments[name] = value
        return call(*given.args[1:], **given.kwargs)
