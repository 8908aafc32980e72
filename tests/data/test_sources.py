"""Some records of a split: evenly spread, or the first."""

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_jax.data.formats.synthetic.scenes import SyntheticScenes
from vision_jax.data.sources import InstanceSource, Subset, spread


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [(0, 3, []), (5, 0, []), (5, 1, [0]), (10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (6, 3, [0, 2, 5])],
)
def test_worked_by_hand(length, count, expected):
    assert spread(length, count) == expected


@given(st.integers(2, 5000), st.integers(2, 300))
def test_from_the_first_to_the_last_in_nearly_equal_steps(length, count):
    found = spread(length, count)
    assert len(found) == min(length, count)
    assert (found[0], found[-1]) == (0, length - 1)
    steps = {after - before for before, after in pairwise(found)}
    assert min(steps) >= 1
    assert max(steps) - min(steps) <= 2


def test_the_first_records_with_all_that_the_source_states():
    scenes = SyntheticScenes(length=5, seed=3, canvas=(128, 128))
    part = Subset(scenes, 2)
    assert isinstance(part, InstanceSource)
    assert (len(part), len(Subset(scenes, 9)), part.classes) == (2, 5, scenes.classes)
    again = pickle.loads(pickle.dumps(part))
    assert len(again) == 2
    assert again.record(1).boxes.tolist() == scenes.record(1).boxes.tolist()
    assert not hasattr(part, "colors_of_the_sea")
