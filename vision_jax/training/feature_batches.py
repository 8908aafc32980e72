"""Shuffled training batches out of a cache, in random access.

Batch n is a function of (seed, n) alone. Each pass over a group of examples (those of one shape) is shuffled
anew; groups take turns in proportion to their sizes, and every batch holds one group's examples.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int64

from vision_jax.training.shards import ShardReader
from vision_jax.types import UserError

_THREADS = 2
_AHEAD = 4


class FeatureBatches:
    """An endless iterator of training batches whose position is one number.

    Args:
        reader: of the examples.
        together: examples of one group -> batch.
        batch_size: examples a batch; batches run over the end of a pass, so all are full.
        seed: of the order.
        part: (index, count): the examples `index`, `index + count`, ... of each batch are read.
    """

    def __init__(
        self,
        reader: ShardReader,
        together: Callable[[Sequence[dict[str, np.ndarray]]], Any],
        batch_size: int,
        seed: int,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._reader = reader
        self._together = together
        self._identity = {"seed": seed, "batch_size": batch_size, "examples": len(reader)}
        self._part = part
        self._next = 0
        groups = np.array(reader.groups)
        self._groups = [np.flatnonzero(groups == group) for group in dict.fromkeys(reader.groups)]
        self._ahead: deque[Future[Any]] = deque()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="features")
        weakref.finalize(self, self._threads.shutdown, wait=False, cancel_futures=True)

    def __iter__(self) -> FeatureBatches:
        return self

    def __next__(self) -> Any:
        while len(self._ahead) < _AHEAD:
            self._ahead.append(self._threads.submit(self._read, self._next + len(self._ahead)))
        self._next += 1
        return self._ahead.popleft().result()

    def get_state(self) -> dict[str, int]:
        """The number of batches taken, and what makes the sequence."""
        return {"next": self._next, **self._identity}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to where `get_state` was called.

        Raises:
            UserError: the state is of batches of another seed, size or number of examples.
        """
        for name, now in self._identity.items():
            if state.get(name) != now:
                raise UserError(
                    f"the saved position in the cached features was for {name}={state.get(name)}, now it is "
                    f"{now}: resume with the run's own data and options, or start a new run"
                )
        self._ahead.clear()
        self._next = int(state["next"])

    def shard(self, index: int, count: int) -> FeatureBatches:
        """An iterator from the first batch on that reads examples `index`, `index + count`, ... of each."""
        return FeatureBatches(
            self._reader,
            self._together,
            self._identity["batch_size"],
            self._identity["seed"],
            (index, count),
        )

    def close(self) -> None:
        """Ends the threads; no batch can be taken after it."""
        self._threads.shutdown(cancel_futures=True)

    def indices(self, number: int) -> list[int]:
        """The examples of a batch, by its number."""
        group, number = turn(number, [len(members) for members in self._groups])
        members = self._groups[group]
        size = self._identity["batch_size"]
        passes = np.divmod(np.arange(number * size, (number + 1) * size), len(members))
        seed = self._identity["seed"]
        order = [
            _shuffled(seed, group, int(epoch), len(members))[at] for epoch, at in zip(*passes, strict=True)
        ]
        return members[order].tolist()

    def _read(self, number: int) -> Any:
        index, count = self._part
        return self._together([self._reader.read(i) for i in self.indices(number)[index::count]])


def turn(number: int, sizes: Sequence[int]) -> tuple[int, int]:
    """Whose turn it is: of the first n batches, group g has n x size / (sum of sizes), rounded.

    Args:
        number: of the batch, from 0.
        sizes: of the groups, at least 1 each.

    Returns:
        (the group, how many batches it has had before).
    """
    for group in range(len(sizes) - 1):
        total = sum(sizes[group:])
        before, after = number * sizes[group] // total, (number + 1) * sizes[group] // total
        if after > before:
            return group, before
        number -= before
    return len(sizes) - 1, number


@lru_cache(maxsize=8)
def _shuffled(seed: int, group: int, epoch: int, count: int) -> Int64[np.ndarray, " count"]:
    """The order of one pass over a group."""
    return np.random.default_rng([seed, group, epoch]).permutation(count)
