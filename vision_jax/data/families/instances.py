"""Images with boxes and masks.

In a record besides what detection has: `runs` and `run_starts`, run lengths of each box's mask
(`vision_jax.data.codecs.masks`); of a COCO file's, `segmentations`, what its own tools make masks of.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Int

from vision_jax.data.annotations.checks import refuse_without_masks, warn_no_objects
from vision_jax.data.codecs.masks import decode_runs, encode_runs, pack_runs
from vision_jax.data.families.detection import StoredDetection, boxes_record, boxes_table
from vision_jax.data.family import Family
from vision_jax.data.pipeline.reading import read_instances
from vision_jax.data.sources import InstanceSource
from vision_jax.data.storage.encoding import Encoding
from vision_jax.data.storage.files import SplitReader, pack_json, unpack_json
from vision_jax.data.storage.layout import Record, RecordLayout
from vision_jax.data.transforms.geometry import Canvas


class StoredInstances(StoredDetection):
    """One split of converted images with boxes and masks: an `InstanceSource`."""

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """Each box's object, in the record's order; all False where no shape is known.

        Raises:
            UserError: the record is damaged.
        """
        height, width = self._annotations.size(index)
        record = self._reader.read(index)
        runs, starts = record["runs"], record["run_starts"]
        masks = np.zeros((len(starts) - 1, height, width), bool)
        for i, (first, end) in enumerate(pairwise(starts.tolist())):
            masks[i] = decode_runs(runs[first:end], height, width)
        return masks

    def outlined(self, index: int) -> Bool[np.ndarray, " n"]:
        """Of each box, whether its mask is known, in the record's order.

        Raises:
            UserError: the record is damaged.
        """
        return np.diff(self._reader.read(index)["run_starts"]) > 1


class StoredCocoInstances(StoredInstances):
    """The same of a COCO file."""

    def segmentations(self, index: int) -> list[Any]:
        """Each box's object as COCO's own tools take it (`formats.coco.detection`), in the record's order.

        Raises:
            UserError: the record is damaged.
        """
        return unpack_json(self._reader.read(index)["segmentations"])


def _open(reader: SplitReader, own: tuple[str, ...], classes: tuple[str, ...]) -> StoredInstances:
    of_coco = len(reader) and "segmentations" in reader.read(0)
    return (StoredCocoInstances if of_coco else StoredInstances)(reader, own, classes)


def _record(source: InstanceSource, index: int, encoding: Encoding) -> Record:
    """As `boxes_record`, with int32 run lengths of all objects one after another, and where each starts."""
    arrays, row = boxes_record(source, index, encoding)
    size = row["sizes"]
    whole = source.masks(index)
    masks = [encode_runs(_fitted(mask, size)) for mask in whole]
    arrays["runs"] = np.concatenate([np.zeros(0), *masks]).astype(np.int32)
    arrays["run_starts"] = np.cumsum([0, *map(len, masks)]).astype(np.int32)
    segmentations = getattr(source, "segmentations", None)
    if segmentations is not None:
        shapes = segmentations(index)
        if size != whole.shape[1:]:
            shapes = [
                _scaled(shape, whole.shape[1:], size, runs) for shape, runs in zip(shapes, masks, strict=True)
            ]
        arrays["segmentations"] = pack_json(shapes)
    return arrays, row


def _scaled(shape: Any, old: Canvas, new: Canvas, runs: Int[np.ndarray, " runs"]) -> Any:
    """An object as COCO's tools take it, in the new size: polygons scaled, run lengths of its new mask."""
    if isinstance(shape, dict):
        return {"size": list(new), "counts": pack_runs(runs)}
    factors = np.array([new[1] / old[1], new[0] / old[0]])
    return [(np.reshape(polygon, (-1, 2)) * factors).ravel().tolist() for polygon in shape]


def _fitted(mask: Bool[np.ndarray, "h w"], size: Canvas) -> Bool[np.ndarray, "nh nw"]:
    """A mask in a picture's size; an object too thin to cover half a pixel keeps those it covers most."""
    if mask.shape == size or not mask.any():
        return mask if mask.shape == size else np.zeros(size, bool)
    covered = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return covered >= min(0.5, float(covered.max()))


def _check(train: InstanceSource, val: InstanceSource, spec: str) -> None:
    """Warns of splits without objects, and refuses boxes without a single mask."""
    warn_no_objects(train, val, spec)
    for name, source in (("training", train), ("evaluation", val)):
        refuse_without_masks(source, f"{spec}, {name} split")


INSTANCES = Family[InstanceSource](
    "instances",
    read_instances,
    _check,
    RecordLayout(_record, boxes_table, _open, ("instances",)),
)
