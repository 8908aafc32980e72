"""Budgets of test files: added up over a file's tests by tier, and exceeded by name."""

from tests.timing import BUDGETS, CONTRACT, Timing


def test_a_file_over_its_budget_is_named_and_its_tiers_are_apart():
    timing = Timing(systems=10)
    timing.add("tests/a.py::one", "default", BUDGETS["default"] - 1)
    timing.add("tests/a.py::two", "slow", 2)
    timing.add("tests/b.py::one", "default", 1)
    assert timing.over() == []
    timing.add("tests/a.py::three[x]", "default", 2)
    assert timing.over() == [
        f"tests/a.py: {BUDGETS['default'] + 1:.0f} s of processor time in the tier default, its budget is 90"
    ]
    assert timing.tests.most_common(1)[0][0] == "tests/a.py::one"


def test_the_contract_test_may_take_more_with_each_system():
    timing = Timing(systems=10)
    timing.add(f"{CONTRACT}::one", "default", 49)
    assert timing.over() == []
    timing.add(f"{CONTRACT}::two", "default", 2)
    assert timing.over() == [f"{CONTRACT}: 51 s of processor time in the tier default, its budget is 50"]
