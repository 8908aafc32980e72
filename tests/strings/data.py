"""Strings in a folder: train.txt and val.txt, a string a line; as examples and batches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int

from tests.strings.spec import StringSpec
from vision_jax.data.pipeline.buckets import Buckets
from vision_jax.types import UserError


@struct.dataclass
class StringBatch:
    """Strings of one bucket: all of their tokens, and how many of them prediction is given."""

    tokens: Int[Array, "b t"]
    valid: Bool[Array, "b t"]
    given: Int[Array, " b"]
    id: Int[Array, " b"]
    example_valid: Bool[Array, " b"]


@struct.dataclass
class StringPredictions:
    """The strings as they are completed, `valid` up to their end."""

    tokens: Int[Array, "b t"]
    valid: Bool[Array, "b t"]


@dataclass(frozen=True)
class StringExample:
    id: int
    tokens: np.ndarray
    given: int


class StringSource:
    """The lines of a file in random access."""

    def __init__(self, path):
        if not path.exists():
            raise UserError(f"there is no {path}: --data takes a folder with train.txt and val.txt")
        self.lines = [line for line in Path(path).read_text().splitlines() if line]

    def __len__(self):
        return len(self.lines)


def lengths(source):
    """In characters, of each string."""
    return np.array([len(source.lines[i]) for i in range(len(source))])


@dataclass(frozen=True)
class Read:
    """(source, index) -> example, of which prediction is given the first half."""

    spec: StringSpec

    def __call__(self, source, index):
        tokens = np.array(self.spec.tokens(source.lines[index]), np.int32)
        return StringExample(index, tokens, len(tokens) // 2)


@dataclass(frozen=True)
class Unchanged:
    """No augmentation."""

    def prepare(self, example):
        return example

    def __call__(self, example, rng):
        return example


@dataclass(frozen=True)
class Stack:
    """Examples of one bucket -> batch."""

    lengths: tuple[int, ...]
    batch_size: int

    def __call__(self, examples):
        buckets = Buckets(self.lengths)
        tokens, valid = buckets.stack([e.tokens for e in examples], self.batch_size, padding=-1)
        given, id = np.zeros(self.batch_size, np.int32), np.full(self.batch_size, -1, np.int32)
        given[: len(examples)] = [min(e.given, tokens.shape[1]) for e in examples]
        id[: len(examples)] = [e.id for e in examples]
        return StringBatch(tokens, valid, given, id, np.arange(self.batch_size) < len(examples))
