"""Recipes: one function a system, from hyperparameters to an `Experiment`.

    from vision_jax.recipes import mask_rcnn
    fit(mask_rcnn(data="coco:FOLDER"), "runs/mine")

A recipe is a module with a function `experiment`, as a user's own experiment file has one. Its signature is
its command line: `vision-jax train mask_rcnn --data coco:FOLDER`. Nothing is registered: the modules here are
the recipes. They are imported when they are first used, so that this package costs nothing.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import pkgutil
import sys
import typing
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:  # the recipes, as type checkers need to see them
    from vision_jax.recipes.colocalizer import experiment as colocalizer
    from vision_jax.recipes.digit_addition import experiment as digit_addition
    from vision_jax.recipes.faster_rcnn import experiment as faster_rcnn
    from vision_jax.recipes.image_classifier import experiment as image_classifier
    from vision_jax.recipes.mask_rcnn import experiment as mask_rcnn
    from vision_jax.recipes.segmenter import experiment as segmenter
    from vision_jax.recipes.small_cnn import experiment as small_cnn
    from vision_jax.recipes.spatial_transformer_classifier import experiment as spatial_transformer_classifier
    from vision_jax.training.experiment import Experiment

__all__ = [
    "colocalizer",
    "digit_addition",
    "faster_rcnn",
    "image_classifier",
    "mask_rcnn",
    "recipe_names",
    "recipe_with",
    "segmenter",
    "small_cnn",
    "spatial_transformer_classifier",
]

_P = ParamSpec("_P")


def recipe_names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def recipe_with(
    recipe: Callable[_P, Experiment],
    finish: Callable[[Experiment], Experiment] | None = None,
    /,
    **defaults: Any,
) -> Callable[_P, Experiment]:
    """A recipe with other defaults: the same signature, docstring and command line.

        experiment = recipe_with(mask_rcnn, backbone="resnet50", train=TrainConfig(steps=2000))

    Args:
        recipe: a function from hyperparameters to an `Experiment`.
        finish: changes the experiment that the recipe makes, such as by more ways to evaluate it.
        defaults: by argument; a nested dataclass (`train`) as a whole.

    Returns:
        A function with the recipe's arguments.

    Raises:
        UserError: the recipe has no such argument, or a value is against its type's rule
            (`vision_jax.types.options`).
    """
    from vision_jax.types import UserError, check_options

    signature = inspect.signature(recipe)
    name = recipe.__module__.rpartition(".")[2]
    for argument in defaults:
        if argument not in signature.parameters:
            near = difflib.get_close_matches(argument, signature.parameters, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(signature.parameters)}"
            raise UserError(f"recipe_with({name}, {argument}=...): {name} has no such argument; {hint}")
    check_options(recipe, defaults)
    changed = signature.replace(
        parameters=[
            parameter.replace(default=defaults.get(parameter.name, parameter.default))
            for parameter in signature.parameters.values()
        ]
    )

    @functools.wraps(recipe)
    def experiment(*args: _P.args, **kwargs: _P.kwargs) -> Experiment:
        bound = changed.bind(*args, **kwargs)
        bound.apply_defaults()
        made = typing.cast(Any, recipe)(*bound.args, **bound.kwargs)
        return made if finish is None else finish(made)

    experiment.__signature__ = changed  # type: ignore[attr-defined]
    return experiment


class _Recipes(ModuleType):
    """This package: a recipe's name is its function, however its module came to be imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in recipe_names():
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'; recipes: {recipe_names()}")
        importlib.import_module(f"{__name__}.{name}")
        return self.__dict__[name]

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds a submodule to its name here once it is imported.
        super().__setattr__(name, value.experiment if isinstance(value, ModuleType) else value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *recipe_names()})


sys.modules[__name__].__class__ = _Recipes
