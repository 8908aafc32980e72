"""Batches made of structs, mappings and tuples go through threads, workers, shards and the check."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from vision_jax.data.pipeline.batching import check, stack_ids
from vision_jax.data.pipeline.buckets import Buckets
from vision_jax.data.pipeline.loader import evaluation_batches, train_batches
from vision_jax.data.pipeline.reading import Examples
from vision_jax.data.trees import arrays_of, map_arrays
from vision_jax.types import Proposals, UserError

LENGTHS = np.array([3, 9, 1, 4, 12, 7, 2, 15, 5, 30])
BUCKETS = Buckets((4, 12))


@struct.dataclass
class Sentence:
    tokens: Int[Array, "b t"]
    valid: Bool[Array, "b t"]


@struct.dataclass
class PairBatch:
    """Two languages, features by name, and proposals."""

    pair: tuple[Sentence, Sentence]
    id: Int[Array, " b"]
    example_valid: Bool[Array, " b"]
    features: dict[str, Float[Array, "b c"]]
    proposals: Proposals


@dataclass(frozen=True)
class Tokens:
    id: int
    tokens: np.ndarray


class Texts:
    def __len__(self):
        return len(LENGTHS)


def read(source, index):
    return Tokens(index, np.arange(LENGTHS[index], dtype=np.int32))


def shuffled(example, rng):
    return replace(example, tokens=rng.permutation(example.tokens).astype(np.int32))


def collate(examples, batch_size):
    tokens, valid = BUCKETS.stack([example.tokens for example in examples], batch_size, padding=-1)
    ones = np.ones((batch_size, 2), np.float32)
    return PairBatch(
        **stack_ids([example.id for example in examples], batch_size),
        pair=(Sentence(tokens, valid), Sentence(tokens[:, ::-1].copy(), valid[:, ::-1].copy())),
        features={"one": ones, "wide": np.repeat(tokens[:, :1], 3, 1).astype(np.float32)},
        proposals=Proposals(
            boxes=np.zeros((batch_size, 5, 4), np.float32),
            scores=ones[:, [0] * 5],
            valid=ones[:, [0] * 5] > 0,
        ),
    )


def training(workers=0, **options):
    return train_batches(
        Examples(Texts(), read, cache=True),
        shuffled,
        partial(collate, batch_size=4),
        4,
        workers=workers,
        groups=BUCKETS.bucket(LENGTHS),
        **options,
    )


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    iterator.close()
    return batches


def same(one, two):
    ours, theirs = list(arrays_of(one)), list(arrays_of(two))
    assert len(ours) == len(theirs) == 11
    return all(map(np.array_equal, ours, theirs))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_threads_and_workers_give_the_batches_of_one_thread(workers):
    reference = take(training(threads=0), 6)
    ours = take(training(workers, threads=3), 6)
    assert all(map(same, reference, ours))
    assert all(type(array) is np.ndarray for array in arrays_of(ours))
    assert isinstance(ours[0].pair, tuple)
    assert isinstance(ours[0].pair[1], Sentence)
    for batch in ours:
        assert batch.pair[0].tokens.shape == (4, 4 if LENGTHS[batch.id[0]] <= 4 else 12)
        for row, valid, id in zip(batch.pair[0].tokens, batch.pair[0].valid, batch.id, strict=True):
            if LENGTHS[id] <= 12:
                assert sorted(row[valid]) == list(range(LENGTHS[id]))
    assert {batch.pair[0].tokens.shape[1] for batch in ours} == {4, 12}


def test_a_shard_has_its_part_of_every_array():
    whole = take(training(), 4)
    for index in range(2):
        every_second = slice(index, None, 2)
        for part, batch in zip(take(training().shard(index, 2), 4), whole, strict=True):
            assert same(part, map_arrays(partial(_rows, every_second), batch))


def _rows(rows, array):
    return array[rows]


def test_the_last_batch_of_an_evaluation_is_padded_in_every_struct():
    examples = Examples(Texts(), read)
    batches = list(evaluation_batches(examples, partial(collate, batch_size=4), 4, BUCKETS.bucket(LENGTHS)))
    assert [batch.example_valid.sum() for batch in batches] == [4, 4, 2]
    assert sorted(id for batch in batches for id in batch.id[batch.example_valid]) == list(range(10))
    assert not batches[-1].pair[0].valid[2:].any()


def test_a_position_is_only_good_for_data_of_the_same_fingerprint():
    saved = training(identity={"spec": "3f8a"})
    next(saved)
    state = saved.get_state()
    saved.close()
    assert state == {"next": 1, "spec": "3f8a", "seed": 0, "batch_size": 4, "examples": 10}
    again = training(identity={"spec": "3f8a"})
    again.set_state(state)
    assert again.get_state() == state
    with pytest.raises(UserError, match="was for spec=3f8a, now it is 77c1: resume with the run's own data"):
        training(identity={"spec": "77c1"}).set_state(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.replace(pair=(b.pair[0].replace(tokens=b.pair[0].tokens.astype(np.int64)), b.pair[1])),
         r"Sentence\.tokens is int64, should be int32"),
        (lambda b: b.replace(pair=(b.pair[0], b.pair[1].replace(valid=b.pair[1].valid[:, :2]))),
         r"Sentence\.valid has shape \(4, 2\), should be \[b, t\] with t=4 as in Sentence\.tokens"),
        (lambda b: b.replace(features={"one": np.ones((3, 2), np.float32)}),
         r"PairBatch\.features\['one'\] has shape \(3, 2\), .* with b=4 as in PairBatch\.id"),
        (lambda b: b.replace(proposals=map_arrays(lambda a: a[:2], b.proposals)),
         r"Proposals\.boxes has shape \(2, 5, 4\), .* with b=4 as in PairBatch\.id"),
        (lambda b: b.replace(pair=map_arrays(lambda a: a[:3], b.pair)),
         r"Sentence\.tokens has shape \(3, 4\), .* with b=4 as in PairBatch\.id"),
        (lambda b: b.replace(pair=b.pair[:1]), r"PairBatch\.pair has 1 parts, should have 2"),
    ],
)  # fmt: skip
def test_check_names_the_array_inside_that_is_wrong(change, message):
    batch = check(collate([read(None, 0), read(None, 2)], 4))
    with pytest.raises(TypeError, match=message):
        check(change(batch))


def test_trees_keep_what_is_no_array():
    tree = {"a": (np.arange(2), "text", 3), "b": Tokens(7, np.zeros(1)), "c": [np.ones(3)]}
    doubled = map_arrays(lambda array: array * 2, tree)
    assert doubled["a"][1:] == ("text", 3)
    assert doubled["b"].id == 7
    assert doubled["c"][0].tolist() == [2, 2, 2]
    np.testing.assert_array_equal(doubled["a"][0], [0, 2])
    assert [array.shape for array in arrays_of(tree)] == [(2,), (1,), (3,)]
