import jax
import numpy as np
import pytest

from vision_jax.training.parts import check_partition, is_within, joined, split
from vision_jax.types import UserError

VARIABLES = {
    "params": {"stem_conv": {"kernel": 1}, "head": {"stem": {"bias": 2}, "dense": {"bias": 3}}, "scale": 4},
    "batch_stats": {"stem_norm": {"mean": 5}, "heads": {"mean": 6}},
    "seen": {},
}


def test_a_part_is_a_name_or_the_beginning_of_it():
    assert is_within(("backbone", "stage1_block1", "conv1"), ("stage1",))
    assert is_within(("backbone", "stage10"), ("backbone",))
    assert not is_within(("backbone", "stage10_block1"), ("stage1",))
    assert not is_within((), ("stage1",))


def test_split_by_hand_and_joined_again():
    inside, outside = split(VARIABLES, ("stem", "scale"))
    assert inside == {
        "params": {"stem_conv": {"kernel": 1}, "head": {"stem": {"bias": 2}}, "scale": 4},
        "batch_stats": {"stem_norm": {"mean": 5}},
    }
    assert outside == {
        "params": {"head": {"dense": {"bias": 3}}},
        "batch_stats": {"heads": {"mean": 6}},
        "seen": {},
    }
    assert joined(inside, outside) == VARIABLES
    assert split(VARIABLES, ()) == (VARIABLES, {})
    assert joined(VARIABLES, {}) is VARIABLES
    assert split(VARIABLES, ("batch",))[0] == {}  # a collection is no part


def test_each_variable_has_one_player():
    check_partition(VARIABLES, {"a": ("stem", "scale"), "b": ("dense", "heads")})
    for parts, message in (
        (
            {"a": ("stem", "scale"), "b": ("dense", "tail")},
            "player b: no part .* 'tail'; there are stem_conv",
        ),
        ({"a": ("stem", "scale"), "b": ("dense",)}, "heads is trained by no player"),
        ({"a": ("stem", "scale", "heads"), "b": ("head",)}, "head/stem is trained by both a and b"),
        ({"a": ("stem", "scale", "head"), "b": ("heads",)}, "player b: its modules have no parameters"),
    ):
        with pytest.raises(UserError, match=message):
            check_partition(VARIABLES, parts)


def test_gradients_pass_through_a_split():
    params = {"params": {"a": {"w": np.float32(2)}, "b": {"w": np.float32(3)}}}
    own, others = split(params, ("b",))

    def product(own):
        both = joined(own, others)["params"]
        return both["a"]["w"] * both["b"]["w"]

    assert jax.grad(product)(own) == {"params": {"b": {"w": 2.0}}}
