"""Detections of one pass, kept beside the records they are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import DetectionSource
from vision_jax.types import DetectionBatch, Detections, ImageDetections
from vision_jax.types import to_original as _to_original


def best_first(scores: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The order by falling score; of equal ones, the first stays first."""
    return np.argsort(-scores, kind="stable")


class CollectedDetections:
    """What was found in each image of a split.

    Attributes:
        records: the truth by image id, in the split's order.
        slots: the most detections that a prediction could hold for one image, 0 before the first.
    """

    def __init__(self, records: Sequence[DetectionRecord] | DetectionSource):
        """Reads every record once.

        Args:
            records: a list of them, or a source.

        Raises:
            ValueError: two records carry the same image id.
        """
        if isinstance(records, Sequence):
            listed = list(records)
        else:
            listed = [records.record(index) for index in range(len(records))]
        self.records = {record.id: record for record in listed}
        if len(self.records) != len(listed):
            raise ValueError("two records of a split carry the same image id")
        self.slots = 0
        self._found: dict[int, ImageDetections] = {}

    def add(self, batch: DetectionBatch, detections: Detections) -> None:
        """Takes one batch's detections to the original images and keeps them.

        Args:
            batch: what was predicted on; invalid examples are skipped.
            detections: what was predicted.

        Raises:
            ValueError: an image is not in the split, or comes a second time.
        """
        self.slots = max(self.slots, np.asarray(detections.valid).shape[1])
        for found in _to_original(batch, detections):
            if found.id not in self.records:
                raise ValueError(f"detections for image id {found.id}, which is not in the split")
            if found.id in self._found:
                raise ValueError(f"detections for image id {found.id} came twice")
            self._found[found.id] = found

    def __iter__(self) -> Iterator[tuple[DetectionRecord, ImageDetections]]:
        """Each record with its detections, best first, in the split's order; none where none came."""
        for record in self.records.values():
            found = self._found.get(record.id)
            if found is None:
                none = np.zeros(0, np.float32)
                yield record, ImageDetections(record.id, np.zeros((0, 4), np.float32), none, none.astype(int))
            else:
                order = best_first(found.scores)
                yield (
                    record,
                    ImageDetections(record.id, found.boxes[order], found.scores[order], found.labels[order]),
                )

    @property
    def missing(self) -> int:
        """How many images of the split no prediction came for; they count as images without detections."""
        return len(self.records) - len(self._found)
