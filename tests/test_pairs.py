"""Pairwise cases: all pairs occur, in fewer cases than the product has."""

from itertools import combinations, product

from tests.pairs import pairwise


def test_every_two_values_of_two_axes_occur_together():
    axes = ("abc", (1, 2), (False, True), (None, "x", "y"))
    cases = pairwise(*axes)
    for one, other in combinations(range(len(axes)), 2):
        assert {(case[one], case[other]) for case in cases} == set(product(axes[one], axes[other]))
    assert len(cases) <= 10 < len(list(product(*axes))) == 36


def test_two_axes_are_their_product():
    assert sorted(pairwise((1, 2, 3), (4, 5))) == sorted(product((1, 2, 3), (4, 5)))
