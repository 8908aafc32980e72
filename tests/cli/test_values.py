"""Arguments survive experiment.json."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.cli.values import from_json, to_json
from vision_jax.data.transforms.augment import Augment
from vision_jax.training.experiment import TrainConfig
from vision_jax.types import UserError

trains = st.builds(
    TrainConfig,
    steps=st.integers(0, 10**9),
    optimizer=st.sampled_from(["sgd", "adamw"]),
    learning_rate=st.floats(allow_nan=False),
    milestones=st.lists(st.floats(0, 1), max_size=3).map(tuple),
)


@settings(max_examples=50, deadline=None)
@given(trains)
def test_a_train_config_comes_back_as_it_was(train):
    text = json.dumps(to_json(train))
    assert from_json(TrainConfig, json.loads(text)) == train


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (tuple[int, int] | None, (512, 384)),
        (tuple[int, int] | None, None),
        (Annotated[tuple[float, ...], "sizes"], (16.0, 32.5)),
        (list[str], ["a", "b"]),
        (dict[str, tuple[int, ...]], {"a": (1, 2), "b": ()}),
        (Literal["align", "pool", 3], 3),
        (int | float, 3),
        (int | float, 3.5),
        (float | str, "x"),
        (Path, Path("a/b")),
        (bool, True),
        (Any, "anything"),
        (Augment, Augment(scale=(0.5, 2.0), crop=0.25)),
        (Augment | TrainConfig, TrainConfig(steps=7)),
        (tuple, (1, "a")),
    ],
)
def test_every_kind_of_argument_comes_back_with_its_type(annotation, value):
    back = from_json(annotation, json.loads(json.dumps(to_json(value))))
    assert back == value
    assert type(back) is type(value)


def test_whole_floats_written_as_ints_are_floats_again():
    back = from_json(tuple[float, float], [1, 2])
    assert back == (1.0, 2.0)
    assert [type(v) for v in back] == [float, float]


def test_missing_fields_take_their_defaults():
    assert from_json(TrainConfig, {"steps": 5}) == TrainConfig(steps=5)


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (int, "7", "'7'"),
        (int, True, "not of type int"),
        (Literal["a", "b"], "c", "'a', 'b'"),
        (tuple[int, int], [1, 2, 3], "3 values; it takes 2"),
        (TrainConfig, {"stepps": 5}, "stepps"),
        (TrainConfig, {"steps": "many"}, "train.steps"),
        (int | None, "x", "none of its types"),
        (Augment, {"hflip": 2}, "augment.hflip"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(annotation, value, words):
    with pytest.raises(UserError) as error:
        from_json(annotation, value, "train")
    assert words in str(error.value)


def test_objects_without_a_json_form_are_refused():
    with pytest.raises(UserError, match="set"):
        to_json({1, 2})


@dataclasses.dataclass(frozen=True)
class Nested:
    inner: TrainConfig = TrainConfig(steps=3)
    names: tuple[str, ...] = ("x",)


def test_values_of_nested_dataclasses_are_set():
    value = Nested(TrainConfig(steps=9, schedule="step"), ("a", "b"))
    assert from_json(Nested, json.loads(json.dumps(to_json(value)))) == value
