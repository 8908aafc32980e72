"""What varies: orders, names and mistakes, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_jax.sweeps import cross, grid, zip_
from vision_jax.sweeps.claims import fits
from vision_jax.sweeps.points import check_points, point_name, varied, with_axis
from vision_jax.types import UserError


def test_the_last_axis_of_a_grid_is_the_fastest():
    assert grid(a=[1, 2], b="xy") == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert grid({"train.steps": [5]}, a=range(2)) == [{"train.steps": 5, "a": 0}, {"train.steps": 5, "a": 1}]
    assert grid() == [{}]


def test_axes_side_by_side():
    assert zip_({"train.steps": [10, 20]}, a="xy") == [
        {"train.steps": 10, "a": "x"},
        {"train.steps": 20, "a": "y"},
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: zip_(a=[1, 2], b=[1]), "as many values"),
        (lambda: grid(a=[]), "a has no values"),
        (lambda: grid({"a": [1]}, a=[2]), "given twice"),
    ],
)
def test_axes_that_cannot_be(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=1, max_size=4)
)
def test_a_grid_is_the_cross_of_its_axes(first, second):
    assert grid(a=first, b=second) == cross(grid(a=first), grid(b=second))


def test_a_further_axis_multiplies_and_a_known_one_is_replaced():
    points = grid(roi=["pool", "align"], seed=range(3))
    assert with_axis(points, "seed", [7]) == [{"roi": "pool", "seed": 7}, {"roi": "align", "seed": 7}]
    assert with_axis([{"roi": "pool"}], "lr", [1, 2]) == [{"roi": "pool", "lr": 1}, {"roi": "pool", "lr": 2}]
    assert varied([{"a": 1}, {"b": 1, "a": 2}]) == ["a", "b"]


@pytest.mark.parametrize(
    ("point", "name"),
    [
        ({"roi": "align", "seed": 0}, "roi=align,seed=0"),
        ({"canvas": (512, 384), "train.learning_rate": 0.001}, "canvas=512x384,train.learning_rate=0.001"),
        ({"lr": 1 / 3}, "lr=0.3333333333333333"),
        ({}, "default"),
    ],
)
def test_a_point_names_its_folder(point, name):
    assert point_name(point) == name


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=300), max_size=6))
def test_a_name_is_one_folder_below_the_sweeps(point):
    name = point_name(point)
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert len(name.encode()) <= 120


def test_points_that_read_alike_have_names_of_their_own():
    for a, b in (("x/y", "x-y"), (((16,), (32,)), (16, 32)), ("a b", "a-b")):
        assert point_name({"v": a}) != point_name({"v": b})
    assert point_name({"data": "coco:../my data"}).startswith("data=coco-..-my-data-")


def test_long_names_differ_where_their_ends_do():
    a, b = (point_name({"text": "x" * 200 + end}) for end in "ab")
    assert a != b


def test_points_stand_once_and_must_be_points():
    assert check_points([{"a": 1}, {"a": 1}, {"a": 2}], "f.py") == [{"a": 1}, {"a": 2}]
    for wrong in ({"a": [1]}, [], [3], [{1: 2}]):
        with pytest.raises(UserError, match=r"f\.py: SWEEP"):
            check_points(wrong, "f.py")


def test_an_arm_fits_by_the_values_it_is_asked_for():
    arm = {"roi": "pool", "canvas": [512, 384]}
    assert fits({}, arm)
    assert fits({"canvas": (512, 384)}, arm)
    assert not fits({"roi": "align"}, arm)
    assert not fits({"neck": "c4"}, arm)
    assert fits({"n": 1}, {"n": np.int64(1)})
