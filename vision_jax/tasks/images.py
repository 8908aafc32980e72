"""What tasks on images have in common: two splits, a canvas, files of images to predict from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from vision_jax.data.codecs.images import is_image, read_image
from vision_jax.data.files.fingerprint import fingerprint
from vision_jax.data.files.listing import files_below
from vision_jax.data.sources import Subset
from vision_jax.data.transforms.augment import NO_AUGMENT, Augment, FitCanvas
from vision_jax.data.transforms.geometry import Canvas, Example, oriented
from vision_jax.tasks.canvas import Sides, check_sides
from vision_jax.tasks.loading import Loading
from vision_jax.training.experiment import BatchIterator, Data, Evaluator, Split, Task
from vision_jax.types import DataSpec, Picture, Report, UserError
from vision_jax.visualization import plot_curves


@runtime_checkable
class ImageSpec(DataSpec, Protocol):
    """What the data of any task on images decide: classes, and the (long, short) sides of their canvas."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def canvas(self) -> Sides: ...


S = TypeVar("S", bound=ImageSpec)
Sources = tuple[Any, Any]  # training and evaluation; one and the same where there is one split


class ImageTask(Task[S]):
    """A task on images of some classes, resized into one canvas.

    Args:
        canvas: (long, short) sides in pixels; None lets the data decide.
        augment: how training images are varied.

    Raises:
        UserError: impossible sides.
    """

    def __init__(self, canvas: Sides | None, augment: Augment) -> None:
        check_sides(canvas)
        self.canvas = canvas
        self.augment = augment
        self._opened: dict[tuple[str, ...] | None, Sources] = {}

    @abstractmethod
    def open_sources(self, classes: tuple[str, ...] | None) -> Sources:
        """The splits, labels brought to a run's classes; the data's own for None."""

    @abstractmethod
    def decide(self, train: Any) -> S:
        """What the training split decides."""

    @abstractmethod
    def loadings(self, sources: Sources, spec: S, augment: Augment) -> tuple[Loading, Loading]:
        """How the two splits become batches."""

    @abstractmethod
    def evaluators(self, source: Any, spec: S) -> Sequence[Evaluator]:
        """Fresh evaluators of a split."""

    @abstractmethod
    def summary(self, splits: Mapping[str, Any], training: Loading, spec: S) -> Report:
        """What `vision-jax show` tells of the splits, and a picture with a training batch."""

    def check_training(self, source: Any) -> None:
        """Raises a `UserError` where a split has nothing to train on."""

    def open(self, spec: S | None) -> SplitData:
        """Opens the splits: those of one set of classes once; what they decide is found when asked for."""
        classes = None if spec is None else spec.classes
        if classes not in self._opened:
            self._opened[classes] = self.open_sources(classes)
        return SplitData(self, self._opened[classes], spec, self.augment)

    def find(self, paths: Sequence[Path]) -> list[tuple[Path, str]]:
        """Image files, those in folders inside too."""
        return list(find_images(paths))

    def read(self, file: Path) -> UInt8[np.ndarray, "h w 3"]:
        """An image: uint8 RGB, EXIF rotation applied."""
        return read_image(file)

    def plot_curves(self, rows: list[dict[str, float]]) -> Picture | None:
        """Losses and metrics by step."""
        return plot_curves(rows)


@dataclass(frozen=True)
class SplitData(Data):
    """Two splits of images, opened for a task.

    Attributes:
        task: whose data they are.
        sources: training and evaluation.
        recorded: what a run's data decided; None lets these decide.
        augment: how training images are varied.
    """

    task: ImageTask[Any]
    sources: Sources
    recorded: Any
    augment: Augment

    @cached_property
    def spec(self) -> Any:
        """What the data decide, or what a run's did."""
        return self.task.decide(self.sources[0]) if self.recorded is None else self.recorded

    @cached_property
    def _loadings(self) -> tuple[Loading, Loading]:
        found = self.task.loadings(self.sources, self.spec, self.augment)
        train, val = (replace(loading, spec=self.spec.fingerprint()) for loading in found)
        return train, val

    def train(self, batch_size: int, seed: int, workers: int) -> BatchIterator:
        """Endless batches, shuffled and augmented."""
        self.task.check_training(self.sources[0])
        return self._loadings[0].train(batch_size, seed, workers)

    def once(self, split: Split, batch_size: int) -> Iterable[Any]:
        """The images of a split once, in order, not augmented."""
        return self._loadings[("train", "val").index(split)].once(batch_size)

    def fingerprint(self, split: Split) -> str | None:
        """Of a split's records and files, these by name, size and time; None where it states no files."""
        return fingerprint(self.sources[("train", "val").index(split)])

    def evaluators(self) -> Sequence[Evaluator]:
        """Fresh evaluators for the evaluation split."""
        return self.task.evaluators(self.sources[1], self.spec)

    def overfit(self, n: int) -> SplitData:
        """The first n training images as both splits, not augmented."""
        part = Subset(self.sources[0], n)
        return SplitData(self.task, (part, part), self.spec, NO_AUGMENT)

    def first(self, n: int) -> SplitData:
        """The same with the first n evaluation images."""
        train, val = self.sources
        return SplitData(self.task, (train, Subset(val, n)), self.spec, self.augment)

    def summary(self) -> Report:
        """Counts, sizes and a training batch."""
        train, val = self.sources
        splits = {"train": train} if val is train else {"train": train, "val": val}
        return self.task.summary(splits, self._loadings[0], self.spec)


def fitted(examples: Sequence[Example], sides: Sides) -> tuple[list[Example], Canvas]:
    """Resizes examples onto canvases of their own orientation.

    Args:
        examples: images of any sizes.
        sides: (long, short) of the canvas, in pixels.

    Returns:
        The examples, and the smallest canvas (height, width) that holds all.
    """
    long, short = sides
    canvases = [oriented((short, long), *example.size) for example in examples]
    resized = [FitCanvas(canvas)(example) for example, canvas in zip(examples, canvases, strict=True)]
    return resized, (max(h for h, _ in canvases), max(w for _, w in canvases))


def example_bytes(canvas: Canvas, augment: Augment | None, of_pixel: int, besides: int = 0) -> float:
    """Bytes of an example that is kept between passes.

    Args:
        canvas: (height, width).
        augment: crops are cut from training images that are kept larger than the canvas; None for evaluation.
        of_pixel: bytes a pixel: 3 of an image, more with a label map.
        besides: bytes of what is no map (crops of masks).
    """
    zoom = 1.0 if augment is None else augment.scale[1] ** 2 / (augment.crop_area if augment.crop else 1)
    return zoom * canvas[0] * canvas[1] * of_pixel + besides


def find_images(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Files as they are given, and the images inside folders, sorted.

    Args:
        paths: files and folders.

    Yields:
        Each file once, with its name as given, or relative to its folder's parent.

    Raises:
        UserError: a folder without images, or a path that is not there.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in files_below(path) if p.is_file() and is_image(p))
            if not inside:
                raise UserError(f"{path}: there is no image in this folder")
        elif not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        else:
            inside = [path]
        for file in inside:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, str(file)
