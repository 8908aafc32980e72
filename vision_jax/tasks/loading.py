"""A split as batches on one canvas, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vision_jax.data.digits.distortions import Distort
from vision_jax.data.digits.sums import DistortSum
from vision_jax.data.pipeline.loader import evaluation_batches, train_batches
from vision_jax.data.pipeline.reading import Examples
from vision_jax.data.transforms.augment import Augment, FitCanvas, train_transform
from vision_jax.data.transforms.geometry import Canvas

# Resized images are cached between passes while they take no more bytes than this.
_KEEP_BYTES = 2**30


@dataclass(frozen=True)
class Loading:
    """A split and how its images become batches.

    Attributes:
        source: the split.
        read: (source, index) -> example.
        canvas: (height, width).
        collate: (examples, batch_size=...) -> batch; can be pickled for loader processes.
        groups: (first or None) -> a key for each example; a batch has examples of one key. None: one group.
        bytes_per_pixel: of an example: 3 of its image, and those of its label map.
        extra_bytes: of an example, for what is not a map (masks).
        distort: replaces the `Augment`, and distorts the evaluation images too.
    """

    source: Any
    read: Callable[[Any, int], Any]
    canvas: Canvas
    collate: Callable[[int], Callable[[Sequence[Any]], Any]]
    groups: Callable[[int | None], Sequence[Hashable]] | None = None
    bytes_per_pixel: int = 3
    extra_bytes: int = 0
    distort: Distort | DistortSum | None = None

    def train(
        self, augment: Augment, batch_size: int, seed: int, workers: int, first: int | None = None
    ) -> Any:
        """Endless batches, shuffled and augmented.

        Args:
            augment: how images are varied.
            batch_size: images a batch.
            seed: of the order and of all random numbers.
            workers: loader processes; 0 uses threads.
            first: use only so many images; all if None.

        Returns:
            An iterator with `get_state` and `set_state`.
        """
        transform = self.distort or train_transform(augment, self.canvas)
        # Crops are cut from images that are kept larger than the canvas.
        zoom = augment.scale[1] ** 2 / (augment.crop_area if augment.crop else 1)
        examples = Examples(
            self.source,
            self.read,
            transform.prepare,
            self._fits_in_memory(zoom, max(1, workers), first),
            first,
        )
        return train_batches(
            examples, transform, self.collate(batch_size), batch_size, seed, workers, self._groups(first)
        )

    def evaluation(self, batch_size: int, first: int | None = None) -> Iterable[Any]:
        """Every image once, in order; can be iterated over any number of times.

        Args:
            batch_size: images a batch; the last one is padded.
            first: use only so many images; all if None.
        """
        prepare = FitCanvas(self.canvas) if self.distort is None else self.distort.for_evaluation
        examples = Examples(self.source, self.read, prepare, self._fits_in_memory(1, 1, first), first)
        return evaluation_batches(examples, self.collate(batch_size), batch_size, self._groups(first))

    def _groups(self, first: int | None) -> Sequence[Hashable] | None:
        """The key of each example; None where they are one group."""
        return None if self.groups is None else self.groups(first)

    def _fits_in_memory(self, zoom: float, copies: int, first: int | None) -> bool:
        """Whether the examples can be cached: their pixels `zoom` times those of the canvas, in `copies`."""
        count = len(self.source) if first is None else min(first, len(self.source))
        each = zoom * self.canvas[0] * self.canvas[1] * self.bytes_per_pixel + self.extra_bytes
        return copies * count * each <= _KEEP_BYTES
