"""A split as batches, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vision_jax.data.pipeline.loader import TrainBatches, evaluation_batches, train_batches
from vision_jax.data.pipeline.reading import Examples

# Prepared examples are cached between passes while they take no more bytes than this.
_KEEP_BYTES = 2**30


@runtime_checkable
class TrainingTransform(Protocol):
    """What a training example goes through."""

    def prepare(self, example: Any) -> Any:
        """The part that is always the same, whose outcome may be cached."""
        ...

    def __call__(self, example: Any, rng: np.random.Generator) -> Any:
        """The random part."""
        ...


@dataclass(frozen=True)
class Loading:
    """A split and how its examples become batches; all of it can be pickled for loader processes.

    Attributes:
        source: the split.
        read: (source, index) -> example.
        transform: of training examples.
        prepare: example -> example, of evaluation.
        collate: (batch_size) -> (examples -> batch).
        groups: () -> a key for each example; a batch has examples of one key. None: one group.
        train_bytes: of an example as `transform.prepare` gives it.
        evaluation_bytes: of an example as `prepare` gives it.
        spec: fingerprint of what the data decided: a saved position is only good for the same.
    """

    source: Any
    read: Callable[[Any, int], Any]
    transform: TrainingTransform
    prepare: Callable[[Any], Any]
    collate: Callable[[int], Callable[[Sequence[Any]], Any]]
    groups: Callable[[], Sequence[Hashable]] | None = None
    train_bytes: float = 0
    evaluation_bytes: float = 0
    spec: str = ""

    def train(self, batch_size: int, seed: int, workers: int) -> TrainBatches:
        """Endless batches, shuffled and augmented.

        Args:
            batch_size: examples a batch.
            seed: of the order and of all random numbers.
            workers: loader processes; 0 uses threads.
        """
        cached = max(1, workers) * len(self.source) * self.train_bytes <= _KEEP_BYTES
        examples = Examples(self.source, self.read, self.transform.prepare, cached)
        return train_batches(
            examples,
            self.transform,
            self.collate(batch_size),
            batch_size,
            seed,
            workers,
            self._groups(),
            identity={"spec": self.spec},
        )

    def once(self, batch_size: int) -> Iterable[Any]:
        """Every example once, in order, the last batch padded; can be iterated over any number of times."""
        cached = len(self.source) * self.evaluation_bytes <= _KEEP_BYTES
        examples = Examples(self.source, self.read, self.prepare, cached)
        return evaluation_batches(examples, self.collate(batch_size), batch_size, self._groups())

    def _groups(self) -> Sequence[Hashable] | None:
        """The key of each example; None where they are one group."""
        return None if self.groups is None else self.groups()
