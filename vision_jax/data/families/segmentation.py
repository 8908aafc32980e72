"""Images with label maps. In a record: `labels`, a PNG file, 255 (of 16 bits: 65535) where void."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import Int

from vision_jax.data.family import Family
from vision_jax.data.pipeline.reading import read_segmentation
from vision_jax.data.sources import SegmentationSource
from vision_jax.data.storage.encoding import Encoding
from vision_jax.data.storage.layout import Record, RecordLayout, StoredSplit, joined


class StoredSegmentation(StoredSplit):
    """One split of converted images with label maps: a `SegmentationSource`."""

    def name(self, index: int) -> str:
        """The source's name of the image."""
        return self._names[index]

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """The label map: int32, 0..K-1, -1 where void.

        Raises:
            UserError: the record is damaged.
        """
        stored = self._decoded(index, "labels", cv2.IMREAD_UNCHANGED)
        table = np.full(np.iinfo(stored.dtype).max + 1, -1, np.int32)
        table[: len(self._meaning)] = self._meaning
        return table[stored]


def _record(source: SegmentationSource, index: int, encoding: Encoding) -> Record:
    """A record of an image and its label map, a PNG of 8 or 16 bits, its largest value void; and its row."""
    example = encoding.fit(read_segmentation(source, index))
    kind = np.uint8 if len(source.classes) < 256 else np.uint16
    labels = example.label_map.labels
    stored = np.where(labels < 0, np.iinfo(kind).max, labels).astype(kind)
    arrays = {"image": encoding.encode(example.image.pixels), "labels": cv2.imencode(".png", stored)[1]}
    return arrays, {"names": source.name(index), "used": np.unique(labels[labels >= 0])}


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    return {"used": np.unique(joined(rows, "used", np.int32))}


SEGMENTATION = Family[SegmentationSource](
    "segmentation",
    read_segmentation,
    layout=RecordLayout(_record, _table, StoredSegmentation, ("segmentation",)),
)
