"""Buckets hold what they should, pad to few static lengths, and count what they cut off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.data.pipeline.buckets import Buckets, Truncation
from vision_jax.types import UserError

few = settings(max_examples=40, deadline=None)
lengths_of = st.lists(st.integers(0, 200), min_size=1, max_size=40).map(np.array)
limits = st.sets(st.integers(1, 150), min_size=1, max_size=3).map(lambda some: tuple(sorted(some)))


def test_quantiles_by_hand():
    lengths = np.array([9, 1, 5, 2, 3, 30])
    assert Buckets.derived(lengths).lengths == (2, 5, 30)
    assert Buckets.derived(lengths, count=2).lengths == (3, 30)
    assert Buckets.derived(lengths, count=1, coverage=0.8).lengths == (9,)
    assert Buckets.derived(np.array([4, 4, 4, 4])).lengths == (4,)
    assert Buckets.derived(np.array([0, 0])).lengths == (1,)


@few
@given(lengths_of, st.integers(1, 3), st.floats(0.1, 1))
def test_derived_buckets_cover_what_they_promise(lengths, count, coverage):
    buckets = Buckets.derived(lengths, count, coverage)
    assert len(buckets.lengths) <= count
    assert set(buckets.lengths) <= {1, *lengths.tolist()}
    assert (lengths <= buckets.longest).mean() >= coverage - 1e-9
    if coverage == 1:
        assert buckets.truncation(lengths).truncated == 0
    # each of the first buckets holds its part: what is as short as that
    for i, length in enumerate(buckets.lengths[:-1]):
        assert (lengths <= length).mean() >= coverage * (i + 1) / count - 1e-9


@few
@given(limits, lengths_of)
def test_a_bucket_is_the_shortest_that_holds_a_sequence(limits, lengths):
    buckets = Buckets(limits)
    for length, bucket in zip(lengths.tolist(), buckets.bucket(lengths), strict=True):
        holding = [each for each in buckets.lengths if each >= length]
        assert bucket == min(holding, default=buckets.longest)


@few
@given(limits, lengths_of, st.sampled_from([(), (3,)]))
def test_padding_keeps_every_step_but_those_it_counts(limits, lengths, rest):
    buckets = Buckets(limits)
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 100, (length, *rest)).astype(np.int32) for length in lengths]
    lost = 0
    for bucket in set(buckets.bucket(lengths)):
        ours = [s for s in sequences if buckets.bucket(np.array([len(s)])) == [bucket]]
        stacked, valid = buckets.stack(ours, len(ours) + 1, padding=-7)
        assert stacked.shape == (len(ours) + 1, bucket, *rest)
        assert stacked.dtype == np.int32
        assert not valid[-1].any()
        assert (stacked[~valid] == -7).all()
        for row, mask, sequence in zip(stacked, valid, ours, strict=False):
            np.testing.assert_array_equal(row[mask], sequence[: mask.sum()])
            assert mask.sum() == min(len(sequence), bucket)
            assert (mask[: mask.sum()]).all()
            lost += len(sequence) - mask.sum()
    truncation = buckets.truncation(lengths)
    assert truncation.lost == lost
    assert truncation.truncated == (lengths > buckets.longest).sum()
    assert (truncation.sequences, truncation.steps) == (len(lengths), lengths.sum())


def test_what_is_truncated_is_told():
    assert Buckets((2, 4)).truncation(np.array([1, 4, 5, 9])) == Truncation(2, 4, 6, 19)
    told = Truncation(2, 4, 6, 19).describe()
    assert told == "2 of 4 sequences truncated, 6 of 19 steps cut off"


@pytest.mark.parametrize("lengths", [(), (0, 3), (3, 3), (5, 4), (1, 2, 3, 4)])
def test_impossible_buckets_are_refused(lengths):
    with pytest.raises(UserError, match="1 to 3 lengths"):
        Buckets(lengths)


def test_no_sequence_is_a_clear_error():
    with pytest.raises(UserError, match="the split is empty"):
        Buckets.derived(np.zeros(0, np.int64))
