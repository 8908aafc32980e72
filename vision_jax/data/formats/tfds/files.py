"""The files of a data set that tensorflow-datasets (TFDS) prepared, read by TFDS without TensorFlow.

Nothing that the files name is imported unless it is TFDS' own: a `features.json` names Python classes, and
TFDS would import their modules, whichever they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vision_jax.data.codecs.images import Encoded
from vision_jax.data.files.listing import find
from vision_jax.types import UserError

_CLASS_NAMES = ("pythonClassName", "python_class_name", "type")


class Prepared:
    """The records of one split as TFDS parses them, pictures still encoded; can be pickled.

    Attributes:
        where: the folder and the split, for messages.
    """

    def __init__(self, root: Path, split: str) -> None:
        """Opens a split.

        Args:
            root: the folder of one version.
            split: its name, or a part in TFDS' words.

        Raises:
            UserError: the split cannot be opened.
        """
        self.where = f"{root}, {split}"
        self._root = root
        self._split = split
        self._source: Any = None
        self._last: tuple[int, dict[str, Any]] | None = None
        self._length = len(self._opened())

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        last = self._last  # a record's label and its picture are asked for one after the other
        if last is None or last[0] != index:
            try:
                last = self._last = (index, self._opened()[index])
            except (RuntimeError, OSError) as error:
                raise UserError(
                    f"{self.where}: record {index} cannot be read ({error}): prepare the data again"
                ) from error
        return last[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None, "_last": None}

    def encoded(self, index: int, name: str) -> Encoded:
        """The content of an image feature of a record."""
        return Encoded(self[index][name], f"{self.where}, record {index}, {name}")

    def _opened(self) -> Any:
        if self._source is None:
            tfds = import_tfds()
            builder = builder_from(self._root)
            images = {
                name: tfds.decode.SkipDecoding()
                for name, feature in builder.info.features.items()
                if isinstance(feature, tfds.features.Image)
            }
            try:
                self._source = builder.as_data_source(self._split, decoders=images)
            except NotImplementedError:
                kind = builder.info.file_format.value
                raise UserError(
                    f"{self._root}: prepared as {kind}, which has no random access: prepare the data set "
                    f"again with file_format='array_record'"
                ) from None
            except Exception as error:  # TFDS' own kinds, ValueError, ...
                raise UserError(f"{self.where}: TFDS cannot open this split: {error}") from error
        return self._source


def builder_from(root: Path) -> Any:
    """TFDS' builder of a prepared folder, none of the data set's own code being run.

    Raises:
        UserError: the folder holds no prepared data set, or names features that are not TFDS' own.
    """
    for name in ("dataset_info.json", "features.json"):
        if not (root / name).is_file():
            inside = [path.parent for path in find(root, "**/dataset_info.json")]
            hint = f"; did you mean {inside[-1]}?" if inside else ""
            raise UserError(f"{root}: no {name}: not a data set's version as TFDS prepares it{hint}")
    path = root / "features.json"
    try:
        strange = [name for name in _python_names(json.loads(path.read_bytes())) if not _is_own(name)]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: malformed json ({error}): prepare the data again") from None
    if strange:
        raise UserError(f"{path}: {strange[0]!r} is no feature of TFDS' own, and others are not imported")
    try:
        return import_tfds().builder_from_directory(root)
    except Exception as error:  # TFDS' own kinds, ValueError, protobuf's, ...
        raise UserError(f"{root}: TFDS cannot open this folder: {error}") from error


def import_tfds() -> Any:
    try:
        import tensorflow_datasets
    except ImportError:
        raise UserError(
            "data of the kind tfds: need the package tensorflow-datasets (not TensorFlow): "
            'pip install "vision_jax[tfds]"'
        ) from None
    return tensorflow_datasets


def _python_names(entry: Any) -> Iterator[str]:
    """The classes that a `features.json`, of any age, says its features are."""
    if isinstance(entry, list):
        for value in entry:
            yield from _python_names(value)
    elif isinstance(entry, dict):
        for key, value in entry.items():
            if key in _CLASS_NAMES and isinstance(value, str):
                yield value
            elif key == "json" and isinstance(value, str):
                yield from _python_names(json.loads(value))
            else:
                yield from _python_names(value)


def _is_own(name: str) -> bool:
    return name.startswith("tensorflow_datasets.") or "." not in name


def only_feature(
    features: Mapping[str, Any], fits: Callable[[Any], bool], names: Sequence[str], what: str, where: str
) -> str:
    """The name of the feature that fits: one of `names`, or else the only one.

    Raises:
        UserError: none fits, or several of other names.
    """
    found = [name for name, feature in features.items() if fits(feature)]
    named = [name for name in names if name in found]
    if named or len(found) == 1:
        return named[0] if named else found[0]
    there = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in sorted(features.items()))
    problem = f"{', '.join(found)} could all be it" if found else "there is none"
    raise UserError(f"{where}: expected {what}, but {problem}; the features are {there}")
