"""Data sets prepared by tensorflow-datasets (TFDS), read without TensorFlow.

DIR is the folder of one version of one data set (`.../voc/2007/5.0.0`), with `dataset_info.json`,
`features.json` and shards, prepared in the format array_record (`tfds.data_source(...)`, or
`builder.download_and_prepare(file_format="array_record")`). Features are found by their types, and where
several fit by their names:

- all tasks: a picture, an `Image`, best `image`; a file's name, a `Text` that ends in `filename` or
  `file_name`, if there is one;
- detection: a `Sequence`, best `objects`, of a `BBoxFeature`, best `bbox` (relative y1, x1, y2, x2), and a
  `ClassLabel`, best `label`; in it, if they are there, `is_crowd` and `is_difficult`, which become `ignore`,
  and `area`, in pixels; `image/id`, `image_id` or `id`, whole numbers, which are kept where all differ;
- classification: a `ClassLabel`, best `label`;
- segmentation: a `LabeledImage` or an `Image` of one channel, best `segmentation_mask`. What its indices
  mean: `vision_jax.data.annotations.label_maps`; their names are the `LabeledImage`'s, else there are as many
  classes as the option `classes=K` says, or as the run has.

Classes are the `ClassLabel`'s names; where the run's are given, labels go by name. A split is chosen as
everywhere (`vision_jax.data.files.splits`), and may be a part of one in TFDS' own words:
`?train=train[:80%]`. Pictures are taken as stored, EXIF rotation not applied, as TFDS does.

Opening a detection split reads all of its records once, for the boxes and sizes; no picture is decoded.

Errors (`UserError`): no prepared data set, another format than array_record, features that are not there or
not TFDS' own (`vision_jax.data.formats.tfds.files`), a class that the run has not, an image without a label.

Counted, and reported once for a detection split: boxes of zero or negative size or outside
their image (dropped) or reaching over its border (clipped), objects without a label (dropped).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.annotations.boxes import Findings, ListedBoxes, collect, labels_by_name
from vision_jax.data.annotations.label_map_check import MapCounts, check_training_maps, warn_label_maps
from vision_jax.data.annotations.label_maps import (
    counted_meaning,
    named_meaning,
    of_run,
    to_labels,
    with_foreground,
)
from vision_jax.data.codecs.images import read_image, read_indices, read_size
from vision_jax.data.files.splits import choose, report_single
from vision_jax.data.formats.tfds.files import Prepared, builder_from, import_tfds, only_feature
from vision_jax.data.records import ClassificationRecord, DetectionRecord
from vision_jax.types import UserError

_LARGEST_ID = 2**31 - 1
_IDS = ("image/id", "image_id", "id")
_LABEL_MAPS = ("segmentation_mask", "segmentation_label", "label", "labels", "mask", "annotation")


class _TfdsPictures:
    """What the sources of all tasks have in common.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(self, records: Prepared, features: Mapping[str, Any], classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._records = records
        self._picture = _picture(features, records.where)
        self._name = _name(features)

    def __len__(self) -> int:
        return len(self._records)

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels.

        Raises:
            UserError: the picture or its record is damaged.
        """
        return read_image(self._records.encoded(index, self._picture), upright=False)

    def name(self, index: int) -> str:
        """The file's name where there is one, else the record's position."""
        if self._name is None:
            return f"{index:06d}"
        return self._records[index][self._name].decode(errors="surrogateescape")


class TfdsDetection(_TfdsPictures):
    """One split of images with boxes: a `DetectionSource`."""

    def __init__(
        self, records: Prepared, features: Mapping[str, Any], classes: tuple[str, ...] | None
    ) -> None:
        """Reads all boxes.

        Args:
            records: of the split.
            features: TFDS' features by name.
            classes: the classes of a run; None takes the data's own.

        Raises:
            UserError: see the module's text.
        """
        tfds = import_tfds()
        objects = only_feature(
            features,
            lambda feature: _boxes_in(feature, tfds),
            ("objects",),
            "a Sequence of boxes (BBoxFeature) and labels (ClassLabel)",
            records.where,
        )
        inside = dict(features[objects].feature.items())
        location = f"{records.where}, {objects}"
        box = only_feature(
            inside, lambda f: isinstance(f, tfds.features.BBoxFeature), ("bbox",), "a BBoxFeature", location
        )
        label = only_feature(
            inside, lambda f: isinstance(f, tfds.features.ClassLabel), ("label",), "a ClassLabel", location
        )
        _check_format(inside[box], f"{location}, {box}")
        own = _names(inside[label], f"{location}, {label}")
        super().__init__(records, features, own if classes is None else classes)

        findings = Findings(records.where)
        id_name = next((n for n in _IDS if n in features and _is_whole(features[n])), None)
        ids, names, sizes, image = [], [], [], []
        boxes, labels, ignore, area = [], [], [], []
        for index in range(len(records)):
            example = records[index]
            height, width = read_size(records.encoded(index, self._picture), upright=False)
            ids.append(index if id_name is None else int(example[id_name]))
            names.append(self.name(index))
            sizes.append((height, width))
            found = example[objects]
            relative = np.array(found[box], np.float64).reshape(-1, 4)
            boxes.append(relative[:, [1, 0, 3, 2]] * np.array([width, height, width, height]))
            labels += [int(value) for value in found[label]]
            crowd = [found.get(name, [False] * len(relative)) for name in ("is_crowd", "is_difficult")]
            ignore += [bool(one) or bool(other) for one, other in zip(*crowd, strict=True)]
            area += [float(value) for value in found.get("area", [np.nan] * len(relative))]
            image += [index] * len(relative)
        if len(set(ids)) < len(ids) or not all(0 <= id <= _LARGEST_ID for id in ids):
            ids = list(range(len(ids)))
        named = np.array(labels, np.int32) >= 0
        if not named.all():
            first = image[int(np.flatnonzero(~named)[0])]
            findings.add("objects without a label, dropped", f"record {first}", int((~named).sum()))
        rows = np.flatnonzero(named)
        used = {own[labels[row]] for row in rows}
        number = labels_by_name(used, self.classes, records.where)
        everything = np.concatenate([np.zeros((0, 4)), *boxes])
        self._annotations, _ = collect(
            ids,
            names,
            sizes,
            ListedBoxes(
                image=np.array(image, np.int64)[rows],
                boxes=everything[rows],
                labels=np.array([number[own[labels[row]]] for row in rows], np.int32),
                ignore=np.array(ignore, bool)[rows],
                area=np.array(area, np.float64)[rows],
            ),
            findings,
            lambda row: f"record {image[rows[row]]}",
        )
        findings.report()

    def record(self, index: int) -> DetectionRecord:
        """The boxes of one image."""
        return self._annotations.record(index)


class TfdsClassification(_TfdsPictures):
    """One split of labeled images: a `ClassificationSource`; a record's id is its position."""

    def __init__(
        self, records: Prepared, features: Mapping[str, Any], classes: tuple[str, ...] | None
    ) -> None:
        """As `TfdsDetection`; reads no record."""
        tfds = import_tfds()
        self._label = only_feature(
            features,
            lambda f: isinstance(f, tfds.features.ClassLabel),
            ("label",),
            "a ClassLabel",
            records.where,
        )
        self._own = _names(features[self._label], f"{records.where}, {self._label}")
        super().__init__(records, features, self._own if classes is None else classes)

    def record(self, index: int) -> ClassificationRecord:
        """The label of one image.

        Raises:
            UserError: it has none, or one that the run has not.
        """
        label = int(self._records[index][self._label])
        if label < 0:
            raise UserError(f"{self._records.where}: record {index} has no label: choose another split")
        name = self._own[label]
        number = labels_by_name([name], self.classes, self._records.where)[name]
        return ClassificationRecord(index, self.name(index), number)


class TfdsSegmentation(_TfdsPictures):
    """One split of images with label maps: a `SegmentationSource`."""

    def __init__(
        self,
        records: Prepared,
        features: Mapping[str, Any],
        classes: tuple[str, ...] | None,
        count: int | None = None,
        void: int | None = None,
        foreground: int | None = None,
    ) -> None:
        """As `TfdsDetection`; reads some label maps, to look them over.

        Args:
            records, features, classes: as there.
            count: K, where the label maps' classes have no names: the option `classes=K`.
            void: a void index besides 255.
            foreground: the index of the second of two classes, besides 1.
        """
        tfds = import_tfds()
        where = records.where
        others = {name: feature for name, feature in features.items() if name != "image"}
        self._map = only_feature(
            others,
            lambda f: isinstance(f, tfds.features.Image) and f.shape[-1] == 1 and _is_whole(f),
            _LABEL_MAPS,
            "a label map (LabeledImage, or Image of one channel)",
            where,
        )
        feature = features[self._map]
        if isinstance(feature, tfds.features.LabeledImage) and feature.num_classes and count is None:
            own, self._meaning = named_meaning(feature.names, void, f"{where}, {self._map}")
            self._meaning = with_foreground(own, self._meaning, foreground, where)
            own, self._meaning = of_run(own, self._meaning, classes, where)
        else:
            count = count or len(classes or ()) or (0 if foreground is None else 2)
            if not count:
                raise UserError(
                    f"{where}: the classes of {self._map} have no names: say how many there are, with "
                    f"?classes=K after the folder"
                )
            if classes is not None and count > len(classes):
                raise UserError(f"{where}: has {count} classes, but this run knows {len(classes)}")
            own, self._meaning = _numbered(count), counted_meaning(count, void)
            self._meaning = with_foreground(own, self._meaning, foreground, where)
        pictures = {name: feature for name, feature in features.items() if name != self._map}
        super().__init__(records, pictures, own if classes is None else classes)

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """The label map: int32, 0..K-1, -1 where void.

        Raises:
            UserError: it is unreadable, or holds an index that means nothing.
        """
        encoded = self._records.encoded(index, self._map)
        return to_labels(
            read_indices(encoded), self._meaning, str(encoded), "add ?void={} to the folder if that is void"
        )

    def counts(self) -> MapCounts:
        """What occurs in some of the label maps; reads them."""

        def stored(index: int) -> Int[np.ndarray, "h w"]:
            return read_indices(self._records.encoded(index, self._map))

        return MapCounts.of(len(self), stored, self._meaning)


def open_tfds(
    root: Path,
    source: Callable[..., Any],
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """Opens a prepared data set.

    Args:
        root: the folder of one version.
        source: of a split: (records, features by name, classes, **options) -> one of this module's classes.
        classes: the classes of a run; None takes the data's own.
        train, val: names of the splits or parts of them, where the names do not tell.
        options: of `source`.

    Returns:
        (training, evaluation).

    Raises:
        UserError: see the module's text.
    """
    sources = _opened(root, source, classes, train, val, options)
    first, *others = sources.values()
    return first, others[0] if others else first


def open_tfds_segmentation(
    root: Path,
    classes: tuple[str, ...] | None = None,
    train: str | None = None,
    val: str | None = None,
    **options: Any,
) -> tuple[TfdsSegmentation, TfdsSegmentation]:
    """Opens a prepared data set with label maps, some of which are looked over.

    Args:
        root, classes, train, val: as for `open_tfds`.
        options: `count`, `void` and `foreground` of `TfdsSegmentation`.
    """
    sources = _opened(root, TfdsSegmentation, classes, train, val, options)
    (name, first), *others = sources.items()
    check_training_maps(first.counts(), first.classes, f"{root}, split {name}")
    for name, second in others:
        warn_label_maps(second.counts(), second.classes, f"{root}, split {name}")
    return first, others[0][1] if others else first


def _opened(
    root: Path,
    source: Callable[..., Any],
    classes: tuple[str, ...] | None,
    train: str | None,
    val: str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The sources of the training and the evaluation split by name, one where they are the same."""
    info = builder_from(root).info
    features = dict(info.features.items())
    whole = [None if part is None else part.partition("[")[0] for part in (train, val)]
    chosen = choose(list(info.splits), str(root), *whole)
    parts = dict.fromkeys(part or name for part, name in zip((train, val), chosen, strict=True))
    sources = {part: source(Prepared(root, part), features, classes, **options) for part in parts}
    if len(sources) == 1:
        ((part, only),) = sources.items()
        remedy = "?train=train[:80%]&val=train[80%:] after the folder keeps a fifth back"
        report_single(str(root), part, len(only), remedy)
    return sources


def _picture(features: Mapping[str, Any], where: str) -> str:
    tfds = import_tfds()
    return only_feature(
        features,
        lambda f: (
            isinstance(f, tfds.features.Image)
            and not isinstance(f, tfds.features.LabeledImage)
            and _is_whole(f)
        ),
        ("image",),
        "a picture (Image of whole numbers)",
        where,
    )


def _name(features: Mapping[str, Any]) -> str | None:
    tfds = import_tfds()
    endings = ("filename", "file_name")
    found = [n for n, f in features.items() if isinstance(f, tfds.features.Text) and n.endswith(endings)]
    return min(found, default=None)


def _boxes_in(feature: Any, tfds: Any) -> bool:
    """Whether a feature is a sequence whose elements have a box by name."""
    if not isinstance(feature, tfds.features.Sequence):
        return False
    inside = feature.feature
    if not isinstance(inside, tfds.features.FeaturesDict):
        return False
    return any(isinstance(part, tfds.features.BBoxFeature) for part in inside.values())


def _check_format(feature: Any, where: str) -> None:
    """Refuses boxes that are not (y1, x1, y2, x2), relative; sets older than the choice do not say."""
    kind = feature.bbox_format
    name = getattr(kind, "value", kind)
    if name not in (None, "REL_YXYX"):
        raise UserError(f"{where}: its boxes are {name}; expected REL_YXYX, TFDS' usual relative corners")


def _is_whole(feature: Any) -> bool:
    """Whether a feature's values are whole numbers."""
    return np.issubdtype(feature.np_dtype, np.integer)


def _names(feature: Any, where: str) -> tuple[str, ...]:
    if not feature.num_classes:
        raise UserError(f"{where}: says neither the names of its classes nor how many there are")
    return tuple(feature.names)


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"class{label}" for label in range(count))
