"""What the stages after a `Cache` are given: the data with features of a frozen method.

Training batches are read from the shards alone; batches of `once` are those of the data, with their features
beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vision_jax.training.experiment import Alternate, Batch, BatchIterator, Data, Evaluator, Gradient, Split
from vision_jax.training.feature_batches import FeatureBatches
from vision_jax.training.features import FrozenMethod, WithFeatures
from vision_jax.training.parts import is_within
from vision_jax.training.shards import ShardReader
from vision_jax.training.state import Variables
from vision_jax.types import DataSpec, Report, UserError


@dataclass(frozen=True)
class CachedFeatures:
    """The features of both splits, on disk.

    Attributes:
        model: whose method they are of.
        method: the method as a program.
        weights: a sha256 of the variables that it used.
        shapes: of all variables.
        batch: one batch of the data, for its structure and for an example's shapes.
        readers: by split.
    """

    model: nn.Module
    method: FrozenMethod
    weights: str
    shapes: Variables
    batch: Batch
    readers: dict[Split, ShardReader]

    def train(self, batch_size: int, seed: int, workers: int) -> BatchIterator:
        """Endless shuffled batches `WithFeatures`, not augmented.

        Args:
            batch_size: examples a batch.
            seed: of the order.
            workers: ignored; threads of this process read.
        """
        return FeatureBatches(self.readers["train"], self._together, batch_size, seed)

    def attached(self, split: Split, batches: Iterable[Batch]) -> Iterable[WithFeatures]:
        """The batches of `Data.once` for a split, with their features."""
        return _Attached(self, split, batches)

    def features(self, split: Split, indices: Sequence[int], size: int) -> Any:
        """The features of some examples of one group, at most `size`; 0 up to `size`.

        Returns:
            Arrays [size, ...].
        """
        rows = [_leaves(self.readers[split].read(index), "features") for index in indices]
        stacked = [np.stack(leaves) for leaves in zip(*rows, strict=True)]
        padded = [np.concatenate([x, np.zeros((size - len(x), *x.shape[1:]), x.dtype)]) for x in stacked]
        return self._features(padded)

    def fits(self, model: nn.Module) -> bool:
        """Whether another module's method computes the same from the same variables."""
        if model == self.model:
            return True
        other = FrozenMethod.of(model, self.shapes, self.batch, self.method.name)
        return other.program == self.method.program

    def check_trained(self, stage: Gradient | Alternate, model: nn.Module) -> None:
        """Checks that a stage does not change what the features depend on.

        Raises:
            UserError: its module computes other features, or it trains a parameter that they depend on.
        """
        name = self.method.name
        freeze = stage.freeze if isinstance(stage, Gradient) else ()
        if isinstance(stage, Gradient) and not self.fits(stage.model(model)):
            raise UserError(f"stage {stage.name}: its model has other settings for the cached {name}")
        moved = [path for path in self.method.used if path[0] == "params"]
        moved = [path for path in moved if not is_within(path[1:], freeze)]
        if moved:
            parts = ", ".join(dict.fromkeys(path[1] for path in moved))
            raise UserError(
                f"stage {stage.name} trains {'/'.join(moved[0][1:])}, which the cached {name} depend on; "
                f"freeze {parts}"
            )

    def check_fitted(self, stage: str, variables: Variables) -> None:
        """Checks that a stage without gradients has not changed what the features depend on.

        Raises:
            UserError: it has.
        """
        if self.method.weights(variables) != self.weights:
            raise UserError(f"stage {stage} changes variables that the cached {self.method.name} depend on")

    def _together(self, rows: Sequence[dict[str, np.ndarray]]) -> WithFeatures:
        """Records of one group as a batch."""
        features = zip(*(_leaves(row, "features") for row in rows), strict=True)
        batch = zip(*(_leaves(row, "batch") for row in rows), strict=True)
        return WithFeatures(
            jax.tree.unflatten(jax.tree.structure(self.batch), [np.stack(leaves) for leaves in batch]),
            self._features([np.stack(leaves) for leaves in features]),
            self.method.name,
        )

    def _features(self, leaves: list[np.ndarray]) -> Any:
        """The method's outputs, in its own dtypes."""
        outputs, structure = jax.tree.flatten(self.method.outputs)
        return structure.unflatten([x.astype(out.dtype) for x, out in zip(leaves, outputs, strict=True)])


class _Attached:
    """Batches in order with their features; can be gone through again and again."""

    def __init__(self, cache: CachedFeatures, split: Split, batches: Iterable[Batch]) -> None:
        self._cache = cache
        self._split: Split = split
        self._batches = batches

    def __iter__(self) -> Iterator[WithFeatures]:
        first, count = 0, len(self._cache.readers[self._split])
        for batch in self._batches:
            number = int(np.sum(batch.example_valid))
            if first + number > count:
                raise UserError(
                    f"the {self._split} data have grown beyond the {count} examples with features"
                )
            size = len(batch.example_valid)
            features = self._cache.features(self._split, range(first, first + number), size)
            yield WithFeatures(batch, features, self._cache.method.name)
            first += number


@dataclass(frozen=True)
class FeatureData(Data):
    """Data for the stages after a cache: every batch is `WithFeatures`, and none is augmented.

    Attributes:
        data: of the run.
        cache: their features.
    """

    data: Data
    cache: CachedFeatures

    @property
    def spec(self) -> DataSpec:
        """That of the data."""
        return self.data.spec

    def train(self, batch_size: int, seed: int, workers: int) -> BatchIterator:
        """Shuffled batches, read from the shards."""
        return self.cache.train(batch_size, seed, workers)

    def once(self, split: Split, batch_size: int) -> Iterable[Batch]:
        """The data's batches with their features beside them."""
        return self.cache.attached(split, self.data.once(split, batch_size))

    def fingerprint(self, split: Split) -> str | None:
        """That of the data."""
        return self.data.fingerprint(split)

    def evaluators(self) -> Sequence[Evaluator]:
        """Those of the data."""
        return self.data.evaluators()

    def overfit(self, n: int) -> Data:
        """A part of the data, without features."""
        return self.data.overfit(n)

    def first(self, n: int) -> Data:
        """The first n evaluation examples, with features."""
        return FeatureData(self.data.first(n), self.cache)

    def summary(self) -> Report:
        """That of the data."""
        return self.data.summary()


def _leaves(arrays: dict[str, np.ndarray], what: str) -> list[np.ndarray]:
    """The leaves of a tree in a record, in order."""
    count = sum(name.startswith(f"{what}.") for name in arrays)
    return [arrays[f"{what}.{i}"] for i in range(count)]
