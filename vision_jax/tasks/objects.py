"""What detection and instance segmentation have in common: images of any size with objects in boxes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from vision_jax.data.annotations.checks import nothing_wanted
from vision_jax.data.examples import DetectionExample
from vision_jax.data.pipeline.batching import count_objects
from vision_jax.data.pipeline.loader import canvases
from vision_jax.data.records import DetectionRecord
from vision_jax.data.sources import DetectionSource, spread
from vision_jax.data.transforms.augment import Augment, FitCanvas, train_transform
from vision_jax.data.transforms.geometry import Canvas
from vision_jax.tasks.canvas import Sides, derived_sides
from vision_jax.tasks.images import ImageTask, Sources, example_bytes
from vision_jax.tasks.loading import Loading
from vision_jax.tasks.summary import counts_table, picture
from vision_jax.training.experiment import Batch
from vision_jax.types import DetectionSpec, Report, UserError
from vision_jax.visualization import plot_box_sizes, plot_class_counts, plot_image_sizes, side_by_side

_LOOKED_AT = 256


class ObjectsTask(ImageTask[DetectionSpec]):
    """A task on images of any size with objects in boxes.

    Args:
        canvas, augment, max_objects: as for `DetectionTask`.

    Raises:
        UserError: impossible sides or number of objects.
    """

    spec_type = DetectionSpec

    def __init__(self, canvas: Sides | None, augment: Augment, max_objects: int | None = None) -> None:
        super().__init__(canvas, augment)
        if max_objects is not None and max_objects < 1:
            raise UserError(f"max_objects is {max_objects}: give 1 or more, or leave it out")
        self.max_objects = max_objects

    @property
    @abstractmethod
    def reader(self) -> Callable[[Any, int], DetectionExample]:
        """(source, index) -> example; can be pickled for loader processes."""

    @property
    @abstractmethod
    def collator(self) -> Callable[..., Batch]:
        """(examples, canvas, max_objects, batch_size) -> batch; can be pickled."""

    @abstractmethod
    def unannotated(self, id: int, image: UInt8[np.ndarray, "h w 3"]) -> DetectionExample:
        """An example of an RGB image without objects."""

    def extra_bytes(self, source: Any, most: int) -> int:
        """Bytes that an example holds besides its image, with at most so many objects."""
        return 0

    def decide(self, train: DetectionSource) -> DetectionSpec:
        """Its classes, and the median shape of its images where no canvas was given."""
        return DetectionSpec(tuple(train.classes), self.canvas or derived_sides(sizes(train)))

    def check_training(self, source: DetectionSource) -> None:
        """Raises a `UserError` where no image has an object to be found."""
        reason = nothing_wanted(source)
        if reason is not None:
            raise UserError(f"there is nothing to learn in the training images: {reason}")

    def loadings(self, sources: Sources, spec: DetectionSpec, augment: Augment) -> tuple[Loading, Loading]:
        """Both splits on a landscape or a portrait canvas, padded to the most objects of an image."""
        most = self.max_objects or max(count_objects(source) for source in sources)
        train, val = (self._loading(source, spec, augment, most) for source in sources)
        return train, val

    def _loading(self, source: Any, spec: DetectionSpec, augment: Augment, most: int) -> Loading:
        canvas = spec.canvas[1], spec.canvas[0]
        masks = self.extra_bytes(source, most)
        return Loading(
            source,
            self.reader,
            train_transform(augment, canvas),
            FitCanvas(canvas),
            partial(_collate, self.collator, canvas, most),
            partial(canvases, source, canvas),
            example_bytes(canvas, augment, 3, masks),
            example_bytes(canvas, None, 3, masks),
        )

    def prepare(
        self, inputs: Sequence[UInt8[np.ndarray, "_ _ 3"]], ids: Sequence[int], spec: DetectionSpec
    ) -> Batch:
        """A batch of uint8 RGB images of any sizes."""
        canvas = spec.canvas[1], spec.canvas[0]
        examples = [self.unannotated(id, image) for id, image in zip(ids, inputs, strict=True)]
        return self.collator([FitCanvas(canvas)(example) for example in examples], canvas, 1, len(examples))

    def summary(self, splits: Mapping[str, Any], training: Loading, spec: DetectionSpec) -> Report:
        """Numbers of images and objects, sizes, and a training batch."""
        metrics: dict[str, float] = {}
        columns: dict[str, list[int]] = {}
        pictures = []
        for name, source in splits.items():
            records = [source.record(i) for i in range(len(source))]
            counts, objects, boxes, extents = _counts(name, records)
            metrics |= counts
            columns[name] = np.bincount(objects, minlength=len(spec.classes)).tolist()
            if name == "train":
                pictures += [
                    plot_class_counts(np.array(columns[name]), spec.classes, "training objects"),
                    plot_box_sizes(boxes),
                    plot_image_sizes(extents),
                ]
        batch = next(training.train(8, 0, 0))
        return Report(
            metrics | {"canvas/long": spec.canvas[0], "canvas/short": spec.canvas[1]},
            {"classes.md": counts_table(spec.classes, columns, "objects")},
            {"data.png": picture([self.plot_batch(batch, spec), side_by_side(pictures)])},
        )


def _collate(
    collator: Callable[..., Batch], canvas: Canvas, most: int, batch_size: int
) -> Callable[[Sequence[Any]], Batch]:
    """A function of examples alone."""
    return partial(collator, canvas=canvas, max_objects=most, batch_size=batch_size)


def sizes(source: DetectionSource) -> Int[np.ndarray, "n 2"]:
    """(height, width) of at most 256 images, evenly spread: int32, pixels; reads no image."""
    records = [source.record(i) for i in spread(len(source), _LOOKED_AT)]
    return np.array([(record.height, record.width) for record in records], np.int32).reshape(-1, 2)


def result(
    id: int, box: Float[np.ndarray, " 4"], score: float, label: int, classes: Sequence[str]
) -> dict[str, Any]:
    """One object in the format of COCO's results, with the class's name; category ids are 1..K.

    Args:
        id: of the image.
        box: float32, (x1, y1, x2, y2) in the original image's pixels.
        score: 0..1.
        label: 0..K-1.
        classes: K names.
    """
    x1, y1, x2, y2 = map(float, box)
    return {
        "image_id": id,
        "category_id": label + 1,
        "category": classes[label],
        "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
        "score": round(score, 5),
    }


def _counts(
    name: str, records: Sequence[DetectionRecord]
) -> tuple[dict[str, float], Int[np.ndarray, " n"], Float[np.ndarray, "n 4"], Int[np.ndarray, "images 2"]]:
    """Of a split: numbers by name, labels (without ignored objects), boxes, (height, width) of images."""
    labels = np.concatenate([np.zeros(0, np.int32), *(r.labels[~r.ignore] for r in records)])
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in records)])
    extents = np.array([(r.height, r.width) for r in records], np.int32).reshape(-1, 2)
    metrics = {
        f"{name}/images": len(records),
        f"{name}/images_without_objects": sum(not (~r.ignore).any() for r in records),
        f"{name}/objects": len(labels),
        f"{name}/ignored": sum(int(r.ignore.sum()) for r in records),
        f"{name}/most_objects_in_an_image": max((len(r.labels) for r in records), default=0),
        f"{name}/median_height": float(np.median(extents[:, 0])) if records else float("nan"),
        f"{name}/median_width": float(np.median(extents[:, 1])) if records else float("nan"),
        f"{name}/median_object_side": _median_side(boxes),
    }
    return metrics, labels, boxes, extents


def _median_side(boxes: Float[np.ndarray, "n 4"]) -> float:
    """The median over boxes (x1, y1, x2, y2) of the square root of their area, in pixels; NaN for no box."""
    if not len(boxes):
        return float("nan")
    sides = boxes[:, 2:] - boxes[:, :2]
    return float(np.median(np.sqrt(sides[:, 0] * sides[:, 1])))
