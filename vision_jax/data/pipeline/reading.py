"""From a source to examples, in random access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from vision_jax.data.examples import (
    ClassificationExample,
    DetectionExample,
    InstanceExample,
    SegmentationExample,
)
from vision_jax.data.fields.image import Image
from vision_jax.data.fields.label_map import LabelMap
from vision_jax.data.fields.masks import MaskedObjects, Masks
from vision_jax.data.fields.objects import Objects
from vision_jax.data.sources import ClassificationSource, DetectionSource, InstanceSource, SegmentationSource
from vision_jax.data.trees import arrays_of

E = TypeVar("E")


def read_detection(source: DetectionSource, index: int) -> DetectionExample:
    """One image with its boxes, as the source holds them."""
    record = source.record(index)
    image = Image(source.image(index), original_size=(record.height, record.width))
    objects = Objects(record.boxes.astype(np.float32), record.labels, record.ignore)
    return DetectionExample(record.id, image, objects)


def read_instances(source: InstanceSource, index: int, size: int | None = 112) -> InstanceExample:
    """One image with its boxes and masks.

    Args:
        source: any.
        index: of the image.
        size: cells along each side of a box-relative crop; None keeps full bitmaps, in the original's pixels.

    Returns:
        The example; masks of objects without a known shape are all 0.
    """
    example = read_detection(source, index)
    masks, boxes = source.masks(index), example.objects.boxes
    field = Masks.bitmaps(masks) if size is None else Masks.crops(masks, boxes, size)
    return InstanceExample(example.id, example.image, MaskedObjects(**vars(example.objects), masks=field))


def read_classification(source: ClassificationSource, index: int) -> ClassificationExample:
    """One image with its class."""
    record = source.record(index)
    return ClassificationExample(record.id, Image.original(source.image(index)), record.label)


def read_segmentation(source: SegmentationSource, index: int) -> SegmentationExample:
    """One image with its label map; the id is the index."""
    image = Image.original(source.image(index))
    return SegmentationExample(index, image, LabelMap(source.labels(index)))


class Examples(Generic[E]):
    """A source's examples in random access, prepared the same way every time, and kept if wanted.

    Can be pickled for worker processes; what is kept is not pickled, each worker keeps its own.
    """

    def __init__(
        self,
        source: Any,
        read: Callable[[Any, int], E],
        prepare: Callable[[E], E] | None = None,
        cache: bool = False,
    ):
        """Opens nothing and reads nothing yet.

        Args:
            source: a source of the kind that `read` reads.
            read: (source, index) -> example.
            prepare: what is done to each example after reading, without randomness, such as `FitCanvas` or a
                train transform's `prepare`; kept examples are kept as it leaves them.
            cache: whether prepared examples are kept in memory; changes no result.
        """
        self._source = source
        self._read = read
        self._prepare = prepare
        self._cache: dict[int, E] | None = {} if cache else None
        self._length = len(source)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> E:
        index = int(index)
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        example = self._read(self._source, index)
        if self._prepare is not None:
            example = self._prepare(example)
        if self._cache is not None:
            for array in arrays_of(example):
                array.flags.writeable = False
            self._cache[index] = example
        return example

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None if self._cache is None else {}}

    def __repr__(self) -> str:
        return f"Examples({len(self)})"
