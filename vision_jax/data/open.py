"""Opens data by a short text, the way the command line names it: KIND:PLACE?option=value&option=value.

    detection        coco:DIR_OR_JSON   voc:DIR   synthetic   tfds:DIR   records:DIR
    instances        coco:DIR_OR_JSON   voc:DIR   synthetic              records:DIR
    segmentation     coco:DIR_OR_JSON   voc:DIR   synthetic   tfds:DIR   records:DIR   labels:DIR
    classification   folder:DIR         idx:DIR   synthetic   tfds:DIR   records:DIR   digits

`tfds:` opens what tensorflow-datasets prepared in the format array_record
(`vision_jax.data.formats.tfds.sources`); `records:` what `vision-jax convert-data` wrote
(`vision_jax.data.formats.records.sources`).

Options, all of them optional:

- `train=NAME`, `val=NAME` (coco, voc, folder, labels, tfds): which splits to train on and to judge on, where
  their names do not tell, or to judge on the test split: `voc:DIR?val=test`;
- `holdout=F` (coco, voc, folder, labels): where there is one split only, the fraction kept back for judging;
- `images=FOLDER` (coco): the image folder, relative to DIR;
- `classes=K`, `void=I` (labels; tfds for segmentation): how many classes there are, which index is void
  besides 255; `foreground=I` (also voc): the index of the second of two classes besides 1, 255 in masks of 0
  and 255;
- `length=N` (idx): train on the first N images;
- `length=N`, `val_length=N`, `seed=S`, `canvas=PIXELS`, `objects=N` (synthetic): scenes to train on and to
  judge on, which scenes, the side of their square, the most objects in one. To classify there is one object,
  a quarter to three quarters of the side long, and no option `objects`.

For instances and segmentation a VOC folder's splits are the lists in ImageSets/Segmentation; its masks are in
SegmentationObject (`vision_jax.data.formats.voc.instances`), its label maps in SegmentationClass
(`vision_jax.data.formats.voc.segmentation`). COCO's instances are painted as label maps
(`vision_jax.data.formats.coco.segmentation`).

Each function gives (training, judging), two sources in random access that can be pickled; they are one and
the same object where there is one split. Given the classes of a run, labels go to them by name, and a class
that the run has not is a `UserError`, as is everything else that is wrong with the text, the folder or the
files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vision_jax.data.annotations.checks import (
    doubt_classes,
    doubt_empty,
    doubt_single_class,
    refuse_without_masks,
)
from vision_jax.data.files.splits import nearest
from vision_jax.data.formats.coco.folder import open_coco, open_coco_segmentation
from vision_jax.data.formats.folders.images import open_image_folder
from vision_jax.data.formats.folders.labels import open_label_folder
from vision_jax.data.formats.idx import open_idx
from vision_jax.data.formats.voc.detection import open_voc
from vision_jax.data.formats.voc.instances import open_voc_instances
from vision_jax.data.formats.voc.segmentation import open_voc_segmentation
from vision_jax.data.sources import ClassificationSource, DetectionSource, InstanceSource, SegmentationSource
from vision_jax.types import UserError

_SPLITS = {"train": str, "val": str, "holdout": float}
_SYNTHETIC = {"length": int, "val_length": int, "seed": int, "canvas": int, "objects": int}
_PARTS = {"train": str, "val": str}
_INSTANCES = {
    "coco": {**_SPLITS, "images": str},
    "voc": _SPLITS,
    "synthetic": _SYNTHETIC,
    "records": {},
}
_DETECTION = {**_INSTANCES, "tfds": _PARTS}
_CLASSIFICATION = {
    "folder": _SPLITS,
    "idx": {"length": int},
    "digits": {},
    "synthetic": {name: kind for name, kind in _SYNTHETIC.items() if name != "objects"},
    "tfds": _PARTS,
    "records": {},
}
_SEGMENTATION = {
    "coco": {**_SPLITS, "images": str},
    "voc": {**_SPLITS, "foreground": int},
    "labels": {**_SPLITS, "classes": int, "void": int, "foreground": int},
    "synthetic": _SYNTHETIC,
    "tfds": {**_PARTS, "classes": int, "void": int, "foreground": int},
    "records": {},
}
_KINDS = {
    "detection": _DETECTION,
    "instances": _INSTANCES,
    "classification": _CLASSIFICATION,
    "segmentation": _SEGMENTATION,
}
_WITHOUT_PLACE = ("synthetic", "digits")
_PREPARED = ("tfds", "records")
_VALUES = {str: "a name", int: "a whole number, 0 or more", float: "a fraction from 0 up to 1"}


def open_detection(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[DetectionSource, DetectionSource]:
    """Opens images with boxes: `coco:DIR`, `voc:DIR`, `synthetic`, `tfds:DIR` or `records:DIR`.

    Args:
        spec: the data; see the module's text.
        classes: the classes of a run; None takes the data's own.

    Returns:
        (training, judging).

    Raises:
        UserError: see the module's text.
    """
    return _open("detection", spec, classes, {"coco": open_coco, "voc": open_voc}, doubt_empty)


def open_instances(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[InstanceSource, InstanceSource]:
    """Opens images with boxes and masks: `coco:DIR`, `voc:DIR`, `synthetic` or `records:DIR`.

    As `open_detection`; data with boxes and not one mask are a `UserError`.
    """
    readers = {"coco": open_coco, "voc": open_voc_instances}
    train, val = _open("instances", spec, classes, readers, doubt_empty)
    if _take_apart(spec)[0] != "synthetic":
        for name, source in (("training", train), ("evaluation", val)):
            refuse_without_masks(source, f"{spec}, {name} split")
    return train, val


def open_classification(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[ClassificationSource, ClassificationSource]:
    """Opens labelled images: `folder:DIR`, `idx:DIR`, `digits`, `synthetic`, `tfds:DIR` or `records:DIR`.

    As `open_detection`.
    """
    return _open(
        "classification", spec, classes, {"folder": open_image_folder, "idx": open_idx}, doubt_single_class
    )


def open_segmentation(
    spec: str, classes: tuple[str, ...] | None = None
) -> tuple[SegmentationSource, SegmentationSource]:
    """Opens images with label maps: `coco:DIR`, `voc:DIR`, `labels:DIR`, `synthetic`, `tfds:DIR` and so on.

    As `open_detection`.
    """
    readers = {
        "coco": open_coco_segmentation,
        "voc": open_voc_segmentation,
        "labels": open_label_folder,
    }
    return _open("segmentation", spec, classes, readers)


OPENERS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "detection": open_detection,
    "classification": open_classification,
    "segmentation": open_segmentation,
    "instances": open_instances,
}


def usual_task(spec: str) -> str:
    """The first task of `OPENERS` that takes a spec's kind; "detection" if none does."""
    kind = _take_apart(spec)[0]
    return next((task for task in OPENERS if kind in _KINDS[task]), "detection")


def place_of(spec: str) -> Path | None:
    """The file or folder of a spec; None for data that are drawn or come with a package."""
    place = _take_apart(spec)[1]
    return Path(place).expanduser() if place else None


def _open(
    task: str,
    spec: str,
    classes: tuple[str, ...] | None,
    readers: Mapping[str, Callable[..., tuple[Any, Any]]],
    doubt: Callable[[Any, Any, str], None] = lambda train, val, where: None,
) -> tuple[Any, Any]:
    """Opens data for a task, and says what is doubtful about files that people made.

    Args:
        task: one of `OPENERS`.
        spec: the data.
        classes: of a run, whose own were looked at when it was trained; None takes the data's own.
        readers: by kind, (place, classes, **options) -> (training, evaluation) splits.
        doubt: (training, evaluation, spec), warns.
    """
    kind, place, options = _parse(spec, _KINDS[task], task, classes)
    if "classes" in options:
        options["count"] = options.pop("classes")
    if kind in _WITHOUT_PLACE:
        train, val = _DRAWN[task, kind](**options)
        _same_classes(spec, train.classes, classes)
        return train, val
    if kind in _PREPARED:
        train, val = _open_prepared(kind, place, task, classes, options)
    else:
        train, val = readers[kind](place, classes, **options)
    if classes is None:
        doubt_classes(train.classes, spec)
    doubt(train, val, spec)
    return train, val


def _open_prepared(
    kind: str, place: Path, task: str, classes: tuple[str, ...] | None, options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """What another program laid out for random access, TFDS or `convert-data`."""
    if kind == "records":
        from vision_jax.data.formats.records.sources import open_records

        return open_records(place, task, classes)
    from vision_jax.data.formats.tfds.sources import open_tfds

    return open_tfds(place, task, classes, **options)


def _synthetic(
    length: int = 4000,
    val_length: int = 200,
    seed: int = 0,
    canvas: int = 256,
    objects: int = 8,
    shares: tuple[float, float] = (1 / 16, 1 / 2),
) -> tuple[Any, Any]:
    """Training and judging scenes; objects' least and greatest sizes are shares of the canvas."""
    from vision_jax.data.formats.synthetic.scenes import SyntheticScenes

    sizes = (max(8.0, shares[0] * canvas), max(8.0, shares[1] * canvas))
    return (
        SyntheticScenes(length, 2 * seed, (canvas, canvas), (1, objects), sizes),
        SyntheticScenes(val_length, 2 * seed + 1, (canvas, canvas), (1, objects), sizes),
    )


def _synthetic_maps(**options: Any) -> tuple[Any, Any]:
    train, val = (scenes.segmentation() for scenes in _synthetic(**options))
    return train, val


def _synthetic_classes(canvas: int = 64, **options: Any) -> tuple[Any, Any]:
    """Scenes of one object, a quarter to three quarters of the side long."""
    scenes = _synthetic(canvas=canvas, **options, objects=1, shares=(1 / 4, 3 / 4))
    train, val = (each.classification() for each in scenes)
    return train, val


def _digits() -> tuple[Any, Any]:
    from vision_jax.data.formats.synthetic.scenes import Digits

    return Digits("train"), Digits("val")


_DRAWN: dict[tuple[str, str], Callable[..., tuple[Any, Any]]] = {
    ("detection", "synthetic"): _synthetic,
    ("instances", "synthetic"): _synthetic,
    ("segmentation", "synthetic"): _synthetic_maps,
    ("classification", "synthetic"): _synthetic_classes,
    ("classification", "digits"): _digits,
}


def _same_classes(spec: str, own: tuple[str, ...], classes: tuple[str, ...] | None) -> None:
    if classes is not None and classes != own:
        raise UserError(
            f"{spec}: has the classes {', '.join(own)}, but this run was trained on {', '.join(classes)}"
        )


def _take_apart(spec: str) -> tuple[str, str, str]:
    """A spec's kind, place and options, as written."""
    rest, mark, tail = spec.rpartition("?")
    if not mark or ("=" not in tail and tail):
        rest, tail = spec, ""
    kind, _, place = rest.partition(":")
    return kind, place, tail


def _parse(
    spec: str, kinds: Mapping[str, Mapping[str, type]], task: str, classes: object
) -> tuple[str, Path, dict[str, Any]]:
    """Checks a spec: its kind, its place (meaningless for data without one) and its options."""
    if isinstance(classes, str):
        raise UserError(f"classes={classes!r} is one text: give a tuple of names, ({classes!r},) for one")
    usage = ", ".join(kind if kind in _WITHOUT_PLACE else f"{kind}:DIR" for kind in kinds)
    kind, place, tail = _take_apart(spec)
    if kind not in kinds:
        raise UserError(f"data {spec!r}: {task} takes {usage}{nearest(kind, kinds)}")
    if (kind in _WITHOUT_PLACE) == bool(place):
        raise UserError(f"data {spec!r}: write it as one of {usage}")
    options = {}
    for option in tail.split("&") if tail else []:
        name, _, value = option.partition("=")
        if name not in kinds[kind]:
            known = ", ".join(kinds[kind]) or "none"
            raise UserError(
                f"data {spec!r}: {kind} has no option {name!r}; options: {known}{nearest(name, kinds[kind])}"
            )
        options[name] = _value(spec, name, value, kinds[kind][name])
    path = Path(place).expanduser()
    if place and not path.exists():
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        hint = nearest(path.name, [other.name for other in beside])
        raise UserError(f"data {spec!r}: there is no {path}{hint}")
    if place and not path.is_dir() and not (kind == "coco" and path.suffix == ".json"):
        raise UserError(f"data {spec!r}: {path} is not a folder")
    return kind, path, options


def _value(spec: str, name: str, text: str, kind: type) -> Any:
    try:
        value = kind(text)
        if text and (kind is str or (kind is int and value >= 0) or 0 <= value < 1):
            return value
    except ValueError:
        pass
    raise UserError(f"data {spec!r}: {name}={text}: expected {_VALUES[kind]}")
