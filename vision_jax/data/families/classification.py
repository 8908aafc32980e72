"""Labeled images. In the table of records: `ids`, `labels`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.data.annotations.checks import warn_single_class
from vision_jax.data.family import Family
from vision_jax.data.pipeline.reading import read_classification
from vision_jax.data.records import ClassificationRecord
from vision_jax.data.sources import ClassificationSource
from vision_jax.data.storage.encoding import Encoding
from vision_jax.data.storage.layout import Record, RecordLayout, StoredSplit


class StoredClassification(StoredSplit):
    """One split of converted, labeled images: a `ClassificationSource`."""

    def record(self, index: int) -> ClassificationRecord:
        """The label of one image, with its source's id and name."""
        table = self._reader.table
        label = self._meaning[table["labels"][index]]
        return ClassificationRecord(int(table["ids"][index]), self._names[index], int(label))


def _record(source: ClassificationSource, index: int, encoding: Encoding) -> Record:
    """A record of a labeled image, and its row of the table."""
    record = source.record(index)
    example = encoding.fit(read_classification(source, index))
    row = {"names": record.name, "ids": record.id, "labels": record.label}
    return {"image": encoding.encode(example.image.pixels)}, row


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    labels = np.array([row["labels"] for row in rows], np.int32)
    ids = np.array([row["ids"] for row in rows], np.int64)
    return {"ids": ids, "labels": labels, "used": np.unique(labels)}


CLASSIFICATION = Family[ClassificationSource](
    "classification",
    read_classification,
    warn_single_class,
    RecordLayout(_record, _table, StoredClassification, ("classification",)),
)
