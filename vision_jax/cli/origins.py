"""What a command names an experiment by: a recipe's name, the folder of a claim, or a Python file."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

from vision_jax import recipes
from vision_jax.cli.experiments import ExperimentFunction
from vision_jax.training.origin import CLAIM, Origin
from vision_jax.types import UserError


def split_origin(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Finds the experiment among a command's words: the first word, or one that ends in .py.

    Returns:
        The experiment's word, None where there is none, and the other words.
    """
    if not words or words[0].startswith("-"):
        at = next((i for i, word in enumerate(words) if word.endswith(".py")), None)
        if at is None:
            return None, list(words)
        return words[at], [*words[:at], *words[at + 1 :]]
    return words[0], list(words[1:])


def needed_origin(words: Sequence[str], command: str, usage: str) -> tuple[Origin, list[str]]:
    """The experiment of a command that cannot do without.

    Args:
        words: after `vision-jax COMMAND`.
        command: its name.
        usage: printed where nothing was said, or where help was asked for and no experiment was named.

    Returns:
        The experiment's origin and the other words.

    Raises:
        UserError: there are options and no experiment, or it is not there.
        SystemExit: the usage was printed.
    """
    word, rest = split_origin(words)
    if word is not None:
        return find_origin(word), rest
    if not rest or "-h" in rest or "--help" in rest:
        print(usage, end="")
        raise SystemExit(0 if rest else 2)
    raise UserError(
        f"which experiment? `vision-jax {command} RECIPE [options]`, with its name before the options; "
        f"recipes: {_listed(recipes.recipe_names())}; or the folder of a claim, or a Python file"
    )


def find_origin(word: str) -> Origin:
    """What a word of the command line names; nothing is imported.

    Args:
        word: a recipe's name, the folder of a claim, or a Python file.

    Raises:
        UserError: it is none of them; with the nearest ones.
    """
    if word in recipes.recipe_names():
        return recipe_origin(f"{recipes.__name__}.{word}")
    path = Path(word)
    if (path / CLAIM).is_file():
        return Origin(word, file=path / CLAIM)
    if path.is_file():
        return Origin(word, file=path)
    raise UserError(_not_found(path))


def recipe_origin(module: str) -> Origin:
    """The recipe of an import path, as a run records it.

    Raises:
        UserError: this version of the package has no such recipe.
    """
    package, _, name = module.rpartition(".")
    if package != recipes.__name__ or name not in recipes.recipe_names():
        raise UserError(f"there is no recipe {module}; recipes: {_listed(recipes.recipe_names())}")
    return Origin(name, recipe=module)


def _not_found(path: Path) -> str:
    names = recipes.recipe_names()
    if path.is_dir():
        inside = sorted({*path.glob("*.py"), *(claim.parent for claim in path.glob(f"**/{CLAIM}"))})
        there = f"there are: {_listed(inside)}" if inside else f"recipes: {_listed(names)}"
        return f"{path} is a folder without a {CLAIM}; {there}"
    files = sorted(path.parent.glob("*.py"))
    claims = [claim.parent for claim in sorted(Path("experiments").glob(f"*/*/{CLAIM}"))]
    known = {name: name for name in names}
    on_disk = {**{claim.name: str(claim) for claim in claims}, **{file.stem: str(file) for file in files}}
    # Of a path and a recipe that are called alike, what looks like the word is meant.
    by_name = {**known, **on_disk} if path.suffix or path.parent != Path() else {**on_disk, **known}
    near = difflib.get_close_matches(path.stem.replace("-", "_"), by_name, n=1)
    if near:
        return f"there is no experiment {path}; did you mean {by_name[near[0]]}?"
    others = [*files, *claims]
    return f"there is no experiment {path}; recipes: {_listed(names)}" + (
        f"; files and claims: {_listed(others)}" if others else ""
    )


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def load_module(origin: Origin) -> ModuleType:
    """Imports the module that an experiment is in: its `experiment`, and what it says of a sweep.

    Raises:
        UserError: a file that is not Python, or an import that is missing.
    """
    if origin.recipe is not None:
        return importlib.import_module(origin.recipe)
    path = origin.file
    assert path is not None
    name = f"vision_jax_experiment_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: an experiment is a Python file, with a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses with string annotations look their module up here
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    except ImportError as error:
        raise UserError(f"{path} imports what is not there: {error}") from error
    return module


def load_experiment(origin: Origin) -> ExperimentFunction:
    """Imports an experiment, and returns its function.

    Returns:
        The function named `experiment`.

    Raises:
        UserError: see `load_module`; or the module has no `experiment`, or one whose arguments have no types.
    """
    return experiment_of(load_module(origin), origin)


def experiment_of(module: ModuleType, origin: Origin) -> ExperimentFunction:
    """The `experiment` function of a module.

    Args:
        module: imported.
        origin: its origin, for messages.

    Raises:
        UserError: it has none, or one whose arguments have no types.
    """
    where = origin.file or origin.word
    if not hasattr(module, "experiment"):
        raise UserError(
            f"{where} defines no `experiment`: an experiment file has a function "
            "`def experiment(data: str = ..., train: TrainConfig = ...) -> Experiment`"
        )
    if not callable(module.experiment):
        raise UserError(
            f"{where}: `experiment` is {type(module.experiment).__name__}, it should be a function"
        )
    function = cast(ExperimentFunction, module.experiment)
    _check_signature(function, where)
    return function


def _check_signature(function: ExperimentFunction, where: Path | str) -> None:
    hints = typing.get_type_hints(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise UserError(f"{where}: experiment({parameter}): each argument needs a name and a type")
        if parameter.name not in hints:
            raise UserError(
                f"{where}: experiment's argument `{parameter.name}` has no type, so the command line "
                f"cannot read it: write `{parameter.name}: float = ...`"
            )
