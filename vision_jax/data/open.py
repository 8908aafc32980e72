"""Opens data by a short text, the way the command line names it: KIND:LOCATION?option=value&option=value.

    detection        coco:DIR_OR_JSON   voc:DIR   synthetic   tfds:DIR   records:DIR
    instances        coco:DIR_OR_JSON   voc:DIR   synthetic              records:DIR
    segmentation     coco:DIR_OR_JSON   voc:DIR   synthetic   tfds:DIR   records:DIR   labels:DIR
    classification   folder:DIR         idx:DIR   synthetic   tfds:DIR   records:DIR   digits

The rooms in `vision_jax.data.formats` state which options each kind takes, all of them optional: `synthetic`
and `digits` in `formats.synthetic`, `folder` and `labels` in `formats.folders`, each other kind in the room
of its name. A room is imported when one of its kinds is asked for.

`open_data` gives (training, evaluation), two sources in random access that can be pickled; they are one and
the same object where there is one split. Given the classes of a run, labels go to them by name, and a class
that the run has not is a `UserError`, as is everything else that is wrong with the text, the folder or the
files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from vision_jax.data.annotations.checks import warn_similar_classes
from vision_jax.data.families.classification import CLASSIFICATION
from vision_jax.data.families.detection import DETECTION
from vision_jax.data.families.instances import INSTANCES
from vision_jax.data.families.segmentation import SEGMENTATION
from vision_jax.data.family import Family, S
from vision_jax.data.files.splits import nearest
from vision_jax.data.format import Format, Opener
from vision_jax.data.storage.files import Contents
from vision_jax.types import UserError

# The room of each kind, in the order in which messages list the kinds.
_ROOMS = {
    "coco": "coco",
    "voc": "voc",
    "labels": "folders",
    "folder": "folders",
    "idx": "idx",
    "digits": "synthetic",
    "synthetic": "synthetic",
    "tfds": "tfds",
    "records": "records",
}
_VALUES = {str: "a name", int: "a whole number, 0 or more", float: "a fraction from 0 up to 1"}


def open_data(family: Family[S], spec: str, classes: tuple[str, ...] | None = None) -> tuple[S, S]:
    """Opens data for a task family.

    Args:
        family: what is wanted of the data.
        spec: the data; see the module's text.
        classes: the classes of a run, whose own were checked when it was trained; None takes the data's own.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    if isinstance(classes, str):
        raise UserError(f"classes={classes!r} is one text: give a tuple of names, ({classes!r},) for one")
    kind, location, tail = _parts(spec)
    format, opener = _checked_format(spec, kind, location, family)
    options = _options(spec, kind, tail, opener.options)
    if "classes" in options:  # not the run's, but how many the data have
        options["count"] = options.pop("classes")
    if not format.has_location:
        train, val = opener.open(**options)
        _same_classes(spec, train.classes, classes)
        return train, val
    if classes is not None:
        options["classes"] = classes
    train, val = opener.open(_checked_path(spec, location, format), **options)
    if classes is None:
        warn_similar_classes(train.classes, spec)
    family.check(train, val, spec)
    return train, val


open_detection = partial(open_data, DETECTION)
open_instances = partial(open_data, INSTANCES)
open_classification = partial(open_data, CLASSIFICATION)
open_segmentation = partial(open_data, SEGMENTATION)


def usual_task(spec: str) -> str:
    """The name of the family that data are usually for: of records, the one they were written for.

    Raises:
        UserError: there is no such kind of data, or no folder of records.
    """
    kind, location, _ = _parts(spec)
    format = _format(kind)
    if format is None:
        formats = {kind: found for kind in _ROOMS if (found := _format(kind))}
        raise UserError(f"data {spec!r}: expected {_usage(formats)}{nearest(kind, formats)}")
    if format.stored is not None:
        return Contents.read(_checked_path(spec, location, format)).task
    return next(iter(format.tasks))


def location_of(spec: str) -> Path | None:
    """The file or folder of a spec; None for data that are rendered or come with a package."""
    location = _parts(spec)[1]
    return Path(location).expanduser() if location else None


def _format(kind: str) -> Format | None:
    """What a kind's room states of it; None where there is no such kind."""
    if kind not in _ROOMS:
        return None
    return import_module(f"vision_jax.data.formats.{_ROOMS[kind]}").FORMATS[kind]


def _parts(spec: str) -> tuple[str, str, str]:
    """A spec's kind, location and options, as written."""
    rest, mark, tail = spec.rpartition("?")
    if not mark or ("=" not in tail and tail):
        rest, tail = spec, ""
    kind, _, location = rest.partition(":")
    return kind, location, tail


def _opener(format: Format, family: Family[Any]) -> Opener | None:
    """How a format is opened for a family; None where it does not serve it."""
    if format.stored is not None and family.layout is not None:
        return replace(format.stored, open=partial(format.stored.open, layout=family.layout))
    return format.tasks.get(family.name)


def _checked_format(spec: str, kind: str, location: str, family: Family[Any]) -> tuple[Format, Opener]:
    """The format of a kind and how it serves the family, if a location is given just where it takes one."""
    format = _format(kind)
    opener = None if format is None else _opener(format, family)
    if format is not None and opener is not None and format.has_location == bool(location):
        return format, opener
    formats = {kind: found for kind in _ROOMS if (found := _format(kind)) and _opener(found, family)}
    usage = _usage(formats)
    if kind in formats:
        raise UserError(f"data {spec!r}: write it as one of {usage}")
    raise UserError(f"data {spec!r}: {family.name} takes {usage or 'nothing yet'}{nearest(kind, formats)}")


def _usage(formats: Mapping[str, Format]) -> str:
    """How data of these kinds are written."""
    return ", ".join(f"{kind}:DIR" if format.has_location else kind for kind, format in formats.items())


def _checked_path(spec: str, location: str, format: Format) -> Path:
    """The file or folder of a location, which is there and of the kind that the format takes."""
    path = Path(location).expanduser()
    if not path.exists():
        beside: Iterable[Path] = path.parent.iterdir() if path.parent.is_dir() else ()
        raise UserError(
            f"data {spec!r}: there is no {path}{nearest(path.name, [other.name for other in beside])}"
        )
    if not path.is_dir() and path.suffix != format.file_suffix:
        raise UserError(f"data {spec!r}: {path} is not a folder")
    return path


def _options(spec: str, kind: str, tail: str, types: Mapping[str, type]) -> dict[str, Any]:
    """The values of the options that a spec ends in.

    Args:
        spec, kind: for messages.
        tail: "option=value&option=value", or nothing.
        types: of the options that there are.
    """
    options = {}
    for option in tail.split("&") if tail else []:
        name, _, text = option.partition("=")
        if name not in types:
            known = ", ".join(types) or "none"
            raise UserError(
                f"data {spec!r}: {kind} has no option {name!r}; options: {known}{nearest(name, types)}"
            )
        options[name] = _value(spec, name, text, types[name])
    return options


def _value(spec: str, name: str, text: str, kind: type) -> Any:
    try:
        value = kind(text)
        if text and (kind is str or (kind is int and value >= 0) or 0 <= value < 1):
            return value
    except ValueError:
        pass
    raise UserError(f"data {spec!r}: {name}={text}: expected {_VALUES[kind]}")


def _same_classes(spec: str, own: tuple[str, ...], classes: tuple[str, ...] | None) -> None:
    if classes is not None and classes != own:
        raise UserError(
            f"{spec}: has the classes {', '.join(own)}, but this run was trained on {', '.join(classes)}"
        )
