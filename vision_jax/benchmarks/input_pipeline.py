"""The input pipeline alone: reading, augmenting and batching, with no model behind it."""

from __future__ import annotations

from typing import Any

from vision_jax.benchmarks.case import Case, Settings, Side
from vision_jax.data.open import usual_task
from vision_jax.tasks import ClassificationTask, DetectionTask, InstanceTask, SegmentationTask

_BATCH, _BATCHES = 8, 4
_TASKS = {
    "classification": ClassificationTask,
    "detection": DetectionTask,
    "instances": InstanceTask,
    "segmentation": SegmentationTask,
}


class InputPipeline(Case):
    """Training batches of 8, four of them a run, one run after the other, with the loader's own threads.

    Images that fit into memory once resized are kept there between passes, as in training.
    """

    images = _BATCH * _BATCHES

    def __init__(self, settings: Settings):
        self._settings = settings

    def ours(self, peer: Any = None) -> Side:
        data, sides = self._settings.data, (self._settings.canvas, self._settings.canvas)
        opened = _TASKS[usual_task(data)](data, sides).open(None)
        batches = iter(opened.train(_BATCH, 0, 0))

        def run() -> int:
            return sum(len(next(batches).image) for _ in range(_BATCHES))

        return Side(run, lambda images: {"images": images})
