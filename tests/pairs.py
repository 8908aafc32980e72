"""Few cases that meet every pair of settings, in place of a product that meets every combination."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations, product
from typing import Any


def pairwise(*axes: Sequence[Hashable]) -> list[tuple[Any, ...]]:
    """Cases, one value of each axis, in which any two values of two axes occur together at least once.

    The next case is always the one with the most pairs that have not occurred yet, the first of several.
    """

    def pairs(case: tuple[Any, ...]) -> set[Any]:
        return set(combinations(enumerate(case), 2))

    cases = list(product(*axes))
    missing = set().union(*map(pairs, cases))
    chosen = []
    while missing:
        chosen.append(max(cases, key=lambda case: len(pairs(case) & missing)))
        missing -= pairs(chosen[-1])
    return chosen
