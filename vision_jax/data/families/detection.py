"""Images with boxes.

In the table of records: `ids`, `sizes` (height, width), `starts`; of all boxes one after the other `boxes`,
`labels`, `ignore`, `area`, as in `vision_jax.data.annotations.boxes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.data.annotations.boxes import Annotations
from vision_jax.data.annotations.checks import warn_no_objects
from vision_jax.data.family import Family
from vision_jax.data.pipeline.reading import read_detection
from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import DetectionSource
from vision_jax.data.storage.encoding import Encoding
from vision_jax.data.storage.files import SplitReader
from vision_jax.data.storage.layout import Record, RecordLayout, StoredSplit, joined


class StoredDetection(StoredSplit):
    """One split of converted images with boxes: a `DetectionSource`.

    Attributes:
        category_ids: the source's category id of each label, where it has them; a class that it does not know
            gets an id above all of its own.
    """

    category_ids: tuple[int, ...] | None

    def __init__(self, reader: SplitReader, own: tuple[str, ...], classes: tuple[str, ...]) -> None:
        super().__init__(reader, own, classes)
        self.category_ids = _category_ids(own, reader.category_ids, classes)
        table = reader.table
        self._annotations = Annotations(
            ids=table["ids"],
            names=self._names,
            sizes=table["sizes"],
            starts=table["starts"],
            boxes=table["boxes"].astype(np.float64),  # float32 in records of before
            labels=self._meaning[table["labels"]],
            ignore=table["ignore"],
            area=table["area"].astype(np.float64),
        )

    def record(self, index: int) -> DetectionRecord:
        """The boxes of one image, with its source's id and name."""
        return self._annotations.record(index)


def _category_ids(
    own: Sequence[str], ids: Sequence[int] | None, classes: Sequence[str]
) -> tuple[int, ...] | None:
    """The source's id of each of the run's classes."""
    if ids is None:
        return None
    known = dict(zip(own, ids, strict=True))
    above = max(ids, default=0)
    return tuple(known.get(name, above + 1 + label) for label, name in enumerate(classes))


def boxes_record(source: DetectionSource, index: int, encoding: Encoding) -> Record:
    """A record of an image with boxes, float64 in pixels of the stored picture, and its row of the table."""
    record = source.record(index)
    example = encoding.fit(read_detection(source, index))
    height, width = example.size
    scale_x, scale_y = width / record.width, height / record.height
    row = {
        "names": record.name,
        "ids": record.id,
        "sizes": (height, width),
        "boxes": np.minimum(
            record.boxes * [scale_x, scale_y, scale_x, scale_y], [width, height, width, height]
        ),
        "labels": example.objects.labels,
        "ignore": example.objects.ignore,
        "area": record.area * (scale_x * scale_y),
    }
    return {"image": encoding.encode(example.image.pixels)}, row


def boxes_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The rows of `boxes_record` as columns."""
    labels = joined(rows, "labels", np.int32)
    return {
        "ids": np.array([row["ids"] for row in rows], np.int64),
        "sizes": np.array([row["sizes"] for row in rows], np.int32).reshape(-1, 2),
        "starts": np.cumsum([0, *(len(row["labels"]) for row in rows)]).astype(np.int64),
        "boxes": joined(rows, "boxes", np.float64, 4),
        "labels": labels,
        "ignore": joined(rows, "ignore", bool),
        "area": joined(rows, "area", np.float64),
        "used": np.unique(labels),
    }


DETECTION = Family[DetectionSource](
    "detection",
    read_detection,
    warn_no_objects,
    RecordLayout(boxes_record, boxes_table, StoredDetection, ("detection", "instances")),
)
