"""Opens data by a short text, the way the command line names it: KIND:LOCATION?option=value&option=value.

    detection        coco:DIR_OR_JSON   voc:DIR   synthetic   tfds:DIR   records:DIR
    instances        coco:DIR_OR_JSON   voc:DIR   synthetic              records:DIR
    segmentation     coco:DIR_OR_JSON   voc:DIR   synthetic   tfds:DIR   records:DIR   labels:DIR
    classification   folder:DIR         idx:DIR   synthetic   tfds:DIR   records:DIR   digits

The rooms in `vision_jax.data.formats` state which options each kind takes, all of them optional: `synthetic`
and `digits` in `formats.synthetic`, `folder` and `labels` in `formats.folders`, each other kind in the room
of its name. A room is imported when one of its kinds is asked for.

Each function gives (training, evaluation), two sources in random access that can be pickled; they are one and
the same object where there is one split. Given the classes of a run, labels go to them by name, and a class
that the run has not is a `UserError`, as is everything else that is wrong with the text, the folder or the
files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from vision_jax.data.annotations.checks import (
    refuse_without_masks,
    warn_no_objects,
    warn_similar_classes,
    warn_single_class,
)
from vision_jax.data.files.splits import nearest
from vision_jax.data.format import Format, Splits
from vision_jax.data.sources import ClassificationSource, DetectionSource, InstanceSource, SegmentationSource
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


def open_detection(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[DetectionSource, DetectionSource]:
    """Opens images with boxes.

    Args:
        spec: the data; see the module's text.
        classes: the classes of a run; None takes the data's own.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    return _open("detection", spec, classes, warn_no_objects)


def open_instances(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[InstanceSource, InstanceSource]:
    """Opens images with boxes and masks.

    As `open_detection`; data with boxes and not one mask are a `UserError`.
    """
    train, val = _open("instances", spec, classes, warn_no_objects)
    if location_of(spec) is not None:
        for name, source in (("training", train), ("evaluation", val)):
            refuse_without_masks(source, f"{spec}, {name} split")
    return train, val


def open_classification(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[ClassificationSource, ClassificationSource]:
    """Opens labeled images; as `open_detection`."""
    return _open("classification", spec, classes, warn_single_class)


def open_segmentation(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[SegmentationSource, SegmentationSource]:
    """Opens images with label maps; as `open_detection`."""
    return _open("segmentation", spec, classes)


OPENERS: dict[str, Callable[..., Splits]] = {
    "detection": open_detection,
    "classification": open_classification,
    "segmentation": open_segmentation,
    "instances": open_instances,
}


def usual_task(spec: str) -> str:
    """The first task of `OPENERS` that takes a spec's kind; "detection" if none does."""
    format = _format(_parts(spec)[0])
    return next((task for task in OPENERS if format is not None and task in format.tasks), "detection")


def location_of(spec: str) -> Path | None:
    """The file or folder of a spec; None for data that are rendered or come with a package."""
    location = _parts(spec)[1]
    return Path(location).expanduser() if location else None


def _open(
    task: str,
    spec: str,
    classes: tuple[str, ...] | None,
    warn: Callable[[Any, Any, str], None] = lambda train, val, where: None,
) -> Splits:
    """Opens data for a task, and warns of what is doubtful about files that people made.

    Args:
        task: one of `OPENERS`.
        spec: the data.
        classes: of a run, whose own were checked when it was trained; None takes the data's own.
        warn: (training, evaluation, spec), of the task.
    """
    if isinstance(classes, str):
        raise UserError(f"classes={classes!r} is one text: give a tuple of names, ({classes!r},) for one")
    kind, location, tail = _parts(spec)
    format = _checked_format(spec, kind, location, task)
    opener = format.tasks[task]
    options = _options(spec, kind, tail, opener.options)
    if "classes" in options:  # not the run's, but how many the data have
        options["count"] = options.pop("classes")
    if not format.has_location:
        train, val = opener.open(**options)
        _same_classes(spec, train.classes, classes)
        return train, val
    train, val = opener.open(_checked_path(spec, location, format), classes=classes, **options)
    if classes is None:
        warn_similar_classes(train.classes, spec)
    warn(train, val, spec)
    return train, val


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


def _checked_format(spec: str, kind: str, location: str, task: str) -> Format:
    """The format of a kind that serves the task, if a location is given just where it takes one."""
    format = _format(kind)
    if format is not None and task in format.tasks and format.has_location == bool(location):
        return format
    formats = {kind: found for kind in _ROOMS if (found := _format(kind)) and task in found.tasks}
    usage = ", ".join(f"{kind}:DIR" if found.has_location else kind for kind, found in formats.items())
    if kind in formats:
        raise UserError(f"data {spec!r}: write it as one of {usage}")
    raise UserError(f"data {spec!r}: {task} takes {usage}{nearest(kind, formats)}")


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
