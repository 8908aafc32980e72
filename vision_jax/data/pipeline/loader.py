"""From examples to batches: shuffling, augmenting and stacking with grain (google/grain).

Every batch is a function of (seed, its number) alone, so neither threads, nor worker processes, nor a stop
and a resume in between change a bit of it. Each pass over the images is shuffled anew; each image's random
numbers come from (seed, its position in the endless order).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic

import grain
import numpy as np

from vision_jax.data.pipeline.batching import check
from vision_jax.data.pipeline.reading import E, Examples
from vision_jax.data.sources import DetectionSource
from vision_jax.data.transforms.geometry import Canvas, oriented
from vision_jax.data.trees import map_arrays
from vision_jax.types import UserError

# Passes go on until so many examples: without an end in sight, and batches of 1 can still be counted.
_EXAMPLES = 2**50


def canvases(source: DetectionSource, canvas: Canvas) -> list[Canvas]:
    """The canvas of each image of a detection source, as `groups` for batches; reads no pixels."""
    length = len(source)
    if canvas[0] == canvas[1]:
        return [canvas] * length
    records = map(source.record, range(length))
    return [oriented(canvas, record.height, record.width) for record in records]


def _group_indices(groups: Sequence[Hashable] | None, length: int) -> list[list[int]]:
    """Indices by group, in order of each group's first index."""
    if groups is None:
        return [list(range(length))]
    if len(groups) != length:
        raise ValueError(f"{len(groups)} groups for {length} examples")
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    return list(members.values())


class _Members(Generic[E]):
    """The examples of one group, as grain's random-access source."""

    def __init__(self, examples: Sequence[E] | Examples[E], indices: list[int]):
        self._examples = examples
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> E:
        return self._examples[self._indices[index]]

    def __repr__(self) -> str:
        return f"_Members({len(self)})"


class TrainBatches:
    """An endless iterator of training batches whose position is one number.

    It starts reading ahead when the first batch is asked for.
    """

    def __init__(
        self,
        batches: Callable[[int, int], grain.MapDataset],
        identity: Mapping[str, str | int],
        workers: int,
        threads: int,
        ahead: int,
        part: tuple[int, int] = (0, 1),
    ):
        """Wraps an endless, random-access sequence of batches.

        Args:
            batches: (index, count) -> a sequence whose item `n` has the examples `index`, `index + count`,
                ... of batch `n`.
            identity: what the sequence is made from; a state is only good for the same.
            workers: processes, or 0 for threads of this one.
            threads: threads when there are no workers; 0 reads when asked.
            ahead: batches read ahead, over all workers.
            part: the index and count that it reads.
        """
        self._make = batches
        self._batches = batches(*part)
        self._identity = dict(identity)
        self._workers = workers
        self._threads = threads
        self._ahead = ahead
        self._next = 0
        self._running: list[Any] = []
        # At the interpreter's end grain's iterators can no longer close themselves: close them before.
        weakref.finalize(self, _close_all, self._running)

    def __iter__(self) -> TrainBatches:
        return self

    def __next__(self) -> Any:
        if not self._running:
            self._running.append(self._start())
        batch = next(self._running[0])
        self._next += 1
        return _own(batch) if self._workers else batch

    def get_state(self) -> dict[str, str | int]:
        """The number of batches taken, and what makes the sequence: JSON-able, the same for any workers."""
        return {"next": self._next, **self._identity}

    def set_state(self, state: Mapping[str, str | int]) -> None:
        """Goes to where `get_state` was called, in this process or an earlier one.

        Raises:
            UserError: the state is of batches of another seed, size or number of examples, or of other data.
        """
        for name, now in self._identity.items():
            if state.get(name) != now:
                raise UserError(
                    f"the saved position in the training data was for {name}={state.get(name)}, now it is "
                    f"{now}: resume with the run's own data and options, or start a new run"
                )
        self.close()
        self._next = int(state["next"])

    def shard(self, index: int, count: int) -> TrainBatches:
        """An iterator, from the first batch on, that reads only a part of each batch.

        Args:
            index: the part: examples `index`, `index + count`, ... of each batch.
            count: how many parts there are, dividing the batch size.

        Returns:
            The iterator; its state is good for any part.
        """
        batch_size = int(self._identity["batch_size"])
        if batch_size % count:
            raise ValueError(f"batches of {batch_size} do not divide into {count} parts")
        return TrainBatches(
            self._make, self._identity, self._workers, self._threads, self._ahead, (index, count)
        )

    def close(self) -> None:
        """Ends threads and worker processes; the next batch starts them again."""
        _close_all(self._running)

    def _start(self) -> Any:
        rest = self._batches[self._next :]
        if not self._workers:
            options = grain.ReadOptions(
                num_threads=self._threads, prefetch_buffer_size=max(self._ahead, self._threads)
            )
            return iter(rest.to_iter_dataset(options))
        _mark_flags_as_parsed()
        in_worker = rest.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        return iter(
            in_worker.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=self._workers,
                    per_worker_buffer_size=max(1, self._ahead // self._workers),
                )
            )
        )


def _close_all(iterators: list[Any]) -> None:
    while iterators:
        iterators.pop().close()


def _own(batch: Any) -> Any:
    """Copies a batch's arrays out of the memory shared with a worker, which is then freed."""
    return map_arrays(lambda array: np.array(array, subok=False), batch)


def _mark_flags_as_parsed() -> None:
    """Grain's worker processes read absl's flags, which a program without absl's main has not parsed."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def train_batches(
    examples: Sequence[E] | Examples[E],
    transform: Callable[[E, np.random.Generator], E],
    collate: Callable[[Sequence[E]], Any],
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    groups: Sequence[Hashable] | None = None,
    threads: int = 2,
    ahead: int = 4,
    identity: Mapping[str, str | int] = MappingProxyType({}),
) -> TrainBatches:
    """Endless, shuffled, augmented batches.

    Args:
        examples: what to train on; to be picklable, like the two functions, when there are workers.
        transform: (example, rng) -> example.
        collate: examples -> batch; each batch is checked against its struct's annotations.
        batch_size: examples a batch; batches run over the end of a pass, so all are full.
        seed: of the order and of every random number, at least 0.
        workers: processes that read; 0 reads in threads of this one. Changes no batch.
        groups: a key for each example; every batch holds one key's examples. Groups take turns in proportion
            to their sizes, so that every image is seen equally often. None is one group.
        threads: threads when there are no workers; 0 reads in the caller's.
        ahead: batches read ahead.
        identity: what else the batches are made from, by name: a fingerprint of the data. A saved position
            is only good for the same.

    Returns:
        The iterator, with `get_state`, `set_state` and `close`.

    Raises:
        UserError: there is no example.
    """
    if not len(examples):
        raise UserError("there is no image to train on: the split is empty")
    members = _group_indices(groups, len(examples))

    def batches(index: int, count: int) -> grain.MapDataset:
        """The endless sequence of batches of which each holds every `count`-th example, from `index` on."""
        groups = []
        for number, indices in enumerate(members):
            # Own seeds for each group: the same position in two groups must not sample the same numbers.
            group_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
            whole = (
                grain.MapDataset.source(_Members(examples, indices))
                .seed(group_seed)
                .shuffle()
                .repeat(_EXAMPLES // len(indices))
                .random_map(transform)
            )
            part = whole if count == 1 else whole[index::count]
            size = batch_size // count
            groups.append(part.batch(size, batch_fn=_Checked(collate, size)))
        if len(groups) == 1:
            return groups[0]
        return grain.MapDataset.mix(groups, weights=[float(len(indices)) for indices in members])

    whole = {**identity, "seed": seed, "batch_size": batch_size, "examples": len(examples)}
    return TrainBatches(batches, whole, workers, threads, ahead)


class _Checked:
    """Stacks, then compares with the struct; cuts off what was padded beyond `size`."""

    def __init__(self, collate: Callable[[Sequence[Any]], Any], size: int):
        self._collate = collate
        self._size = size

    def __call__(self, examples: Sequence[Any]) -> Any:
        batch = check(self._collate(examples))
        return map_arrays(lambda array: array[: self._size], batch)


class EvaluationBatches:
    """Every example once, in order within its group; can be gone through again and again."""

    def __init__(
        self,
        examples: Sequence[E] | Examples[E],
        collate: Callable[[Sequence[E]], Any],
        batch_size: int,
        groups: Sequence[Hashable] | None,
        threads: int,
        ahead: int,
    ):
        self._parts = [
            grain.MapDataset.source(_Members(examples, indices)).batch(
                batch_size, batch_fn=_Checked(collate, batch_size)
            )
            for indices in _group_indices(groups, len(examples))
            if indices
        ]
        self._threads = threads
        self._ahead = ahead

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def __iter__(self) -> Iterator[Any]:
        return self.part(0, len(self))

    def part(self, start: int, stop: int) -> Iterator[Any]:
        """The batches from number `start` to `stop`, exclusive; no other is read."""
        if start >= stop:
            return
        whole = grain.MapDataset.concatenate(self._parts)[start:stop]
        options = grain.ReadOptions(
            num_threads=self._threads, prefetch_buffer_size=max(self._ahead, self._threads)
        )
        iterator = iter(whole.to_iter_dataset(options))
        try:
            yield from iterator
        finally:
            iterator.close()


def evaluation_batches(
    examples: Sequence[E] | Examples[E],
    collate: Callable[[Sequence[E]], Any],
    batch_size: int,
    groups: Sequence[Hashable] | None = None,
    threads: int = 2,
    ahead: int = 4,
) -> EvaluationBatches:
    """Finite batches without randomness, read in threads of this process.

    Args:
        examples: what to evaluate on, already prepared (see `Examples`).
        collate: at most `batch_size` examples -> a batch, padded with invalid ones.
        batch_size: examples a batch.
        groups: a key for each example; every batch holds one key's examples, groups follow one another.
        threads: reading threads; 0 reads in the caller's.
        ahead: batches read ahead.

    Returns:
        An iterable that can be gone through again and again; its length is the number of batches.
    """
    return EvaluationBatches(examples, collate, batch_size, groups, threads, ahead)
