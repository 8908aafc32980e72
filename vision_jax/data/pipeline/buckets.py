"""Sequences of any length in a few static shapes: each is padded to the length of its bucket.

A step is compiled once for each length, so there are at most three. A batch holds sequences of one bucket:
`Buckets.bucket` of all lengths are the `groups` of `train_batches` and `evaluation_batches`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Shaped

from vision_jax.types import UserError

MOST_BUCKETS = 3


@dataclass(frozen=True)
class Truncation:
    """What is cut off sequences that are longer than the longest bucket.

    Attributes:
        truncated: sequences that lose their end.
        sequences: how many there are.
        lost: steps (tokens, frames, points) that are cut off.
        steps: of all sequences.
    """

    truncated: int
    sequences: int
    lost: int
    steps: int

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.truncated} of {self.sequences} sequences truncated, "
            f"{self.lost} of {self.steps} steps cut off"
        )


@dataclass(frozen=True)
class Buckets:
    """The lengths that sequences are padded to.

    Attributes:
        lengths: in steps, ascending, one to three, each at least 1.

    Raises:
        UserError: other lengths.
    """

    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0, *self.lengths), self.lengths, strict=False))
        if not rising or not 1 <= len(self.lengths) <= MOST_BUCKETS:
            raise UserError(
                f"buckets of lengths {', '.join(map(str, self.lengths)) or 'none'}: give 1 to {MOST_BUCKETS} "
                "lengths of at least 1, ascending"
            )

    @classmethod
    def derived(
        cls, lengths: Int[np.ndarray, " n"], count: int = MOST_BUCKETS, coverage: float = 1.0
    ) -> Buckets:
        """Chooses lengths at quantiles, so that each bucket holds about as many sequences.

        Args:
            lengths: of the training sequences.
            count: how many buckets at most; fewer where quantiles coincide.
            coverage: fraction of the sequences that are not to be truncated, more than 0 and at most 1.

        Returns:
            The buckets; each length is that of a sequence, or 1.

        Raises:
            UserError: there is no sequence.
        """
        if not len(lengths):
            raise UserError("there is no sequence to choose the lengths of buckets by: the split is empty")
        at = coverage * np.arange(1, count + 1) / count
        chosen = np.quantile(lengths, at, method="inverted_cdf")
        return cls(tuple(np.unique(np.maximum(chosen, 1)).tolist()))

    @property
    def longest(self) -> int:
        """The length that memory is planned for, in steps."""
        return self.lengths[-1]

    def bucket(self, lengths: Int[np.ndarray, " n"]) -> list[int]:
        """The length of each sequence's bucket: the shortest that holds it, the longest where none does."""
        found = np.searchsorted(self.lengths, lengths)
        return np.array(self.lengths)[np.minimum(found, len(self.lengths) - 1)].tolist()

    def truncation(self, lengths: Int[np.ndarray, " n"]) -> Truncation:
        """What is cut off sequences of these lengths."""
        over = np.maximum(np.asarray(lengths, np.int64) - self.longest, 0)
        return Truncation(int((over > 0).sum()), len(lengths), int(over.sum()), int(np.sum(lengths)))

    def stack(
        self, sequences: Sequence[Shaped[np.ndarray, "_ *rest"]], batch_size: int, padding: float = 0
    ) -> tuple[Shaped[np.ndarray, "b l *rest"], Bool[np.ndarray, "b l"]]:
        """Pads sequences to the bucket that holds the longest of them, and cuts off what is beyond it.

        Args:
            sequences: at least one and at most `batch_size`, of one type; tokens are [t], strokes or frames
                [t, channels].
            batch_size: B; missing sequences are padding alone.
            padding: the value of padded steps.

        Returns:
            The sequences in their own type, L the bucket's length; and which steps are theirs.
        """
        (length,) = self.bucket(np.array([max(map(len, sequences))]))
        stacked = np.full((batch_size, length, *sequences[0].shape[1:]), padding, sequences[0].dtype)
        valid = np.zeros((batch_size, length), bool)
        for i, sequence in enumerate(sequences):
            kept = min(length, len(sequence))
            stacked[i, :kept] = sequence[:kept]
            valid[i, :kept] = True
        return stacked, valid
