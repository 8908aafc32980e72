"""Experiments' command lines: parsed by signature, recorded as JSON."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import tyro

from vision_jax.cli.values import from_json, to_json
from vision_jax.training.experiment import Experiment
from vision_jax.types import UserError

ExperimentFunction = Callable[..., Experiment]


def parse(
    function: ExperimentFunction,
    args: Sequence[str],
    prog: str,
    options: Any = None,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Any]:
    """Reads a command line made of an experiment's own arguments and, beside them, a command's options.

    Args:
        function: the experiment; its signature and docstring are the command line and its help.
        args: the words after the experiment's name.
        prog: the command so far, for the help and messages.
        options: an instance of a dataclass of the command's own options, with their defaults.
        defaults: values in place of the signature's defaults.

    Returns:
        The experiment's arguments by name, and the options (None where there are none).

    Raises:
        UserError: an option and an argument of the experiment have the same name.
        SystemExit: for `--help` (0) and for a mistake (2), after a message with the nearest right option.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        default = (defaults or {}).get(parameter.name, parameter.default)
        parameters.append(
            parameter.replace(
                kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name], default=default
            )
        )
    names = [parameter.name for parameter in parameters]
    if options is not None:
        clash = sorted({f.name for f in fields(options)} & set(names))
        if clash:
            raise UserError(f"{prog}: --{clash[0]} is the command's own: rename the experiment's argument")
        grouped = Annotated[type(options), tyro.conf.arg(name="", help="Options of the command itself.")]
        parameters.append(
            inspect.Parameter("_options", inspect.Parameter.KEYWORD_ONLY, annotation=grouped, default=options)
        )

    def record(**values: Any) -> dict[str, Any]:
        return values

    record.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    record.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    record.__doc__ = function.__doc__
    values = tyro.cli(record, prog=prog, args=list(args))
    return {name: values[name] for name in names}, values.get("_options")


def arguments_to_json(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An experiment's arguments as experiment.json records them."""
    return {name: to_json(value) for name, value in arguments.items()}


def arguments_from_json(
    function: ExperimentFunction, recorded: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Reads recorded arguments back; those that the record lacks take the signature's defaults.

    Args:
        function: the experiment.
        recorded: the `arguments` of an experiment.json.
        where: that file's name, for messages.

    Returns:
        Every argument of the experiment, by name.

    Raises:
        UserError: for an argument that the experiment does not have, or a value of the wrong type.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    unknown = sorted(set(recorded) - set(parameters))
    if unknown:
        raise UserError(f"{where} records `{unknown[0]}`, which its experiment does not take")
    arguments = {}
    for name, parameter in parameters.items():
        if name in recorded:
            arguments[name] = from_json(hints[name], recorded[name], f"{where}: {name}")
        elif parameter.default is parameter.empty:
            raise UserError(f"{where} lacks the argument `{name}` of its experiment")
        else:
            arguments[name] = parameter.default
    return arguments


def defaults_to_json(function: ExperimentFunction) -> dict[str, Any]:
    """The defaults of an experiment's arguments, those that have one."""
    parameters = inspect.signature(function).parameters
    return arguments_to_json({n: p.default for n, p in parameters.items() if p.default is not p.empty})


def check_recordable(function: ExperimentFunction, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as JSON, after making sure that reading them back gives the same arguments.

    Raises:
        UserError: for a type that JSON and the signature do not carry.
    """
    recorded = arguments_to_json(arguments)
    if not _equal(arguments_from_json(function, recorded, "experiment.json"), dict(arguments)):
        raise UserError(
            "experiment.json cannot hold these arguments faithfully: use numbers, strings, Literals, "
            "tuples, or frozen dataclasses of them"
        )
    return recorded


def _equal(a: Any, b: Any) -> bool:
    """Whether two arguments are equal, where NaN equals itself: what refuses it names the option."""
    if is_dataclass(a) and type(a) is type(b):
        return all(_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)) and type(a) is type(b):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b or (a != a and b != b)


def words_of(defaults: Mapping[str, Any], recorded: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The words of a command line that give recorded arguments: those of what differs from the defaults.

    Args:
        defaults: an experiment's, as JSON has them.
        recorded: the arguments, likewise.
        prefix: of an option's name.
    """
    words: list[str] = []
    for name, value in recorded.items():
        old = defaults.get(name)
        if name in defaults and old == value:
            continue
        option = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, Mapping):
            words += words_of(old if isinstance(old, Mapping) else {}, value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            *parents, last = option.split(".")
            words.append("--" + ".".join([*parents, last if value else f"no-{last}"]))
        elif isinstance(value, list):
            words += [f"--{option}", *map(str, value)]
        else:
            words += [f"--{option}", str(value)]
    return words
