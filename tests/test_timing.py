"""Budgets of test files: added up over a file's tests by tier, and exceeded by name."""

from tests.timing import BUDGETS, CONTRACT, PER_SYSTEM, Timing


def test_a_file_over_its_budget_is_named_and_its_tiers_are_apart():
    timing = Timing()
    timing.add("tests/a.py::one", "default", BUDGETS["default"] - 1)
    timing.add("tests/a.py::two", "slow", 2)
    timing.add("tests/b.py::one", "default", 1)
    assert timing.over() == []
    timing.add("tests/a.py::three[x]", "default", 2)
    assert timing.over() == [
        f"tests/a.py: {BUDGETS['default'] + 1:.0f} s of processor time in the tier default, its budget is 45"
    ]
    assert timing.tests.most_common(1)[0][0] == "tests/a.py::one"


def test_a_file_of_contract_tests_may_take_more_with_each_system():
    timing, file = Timing(), f"{CONTRACT}test_detection.py"
    systems = 2 * int(BUDGETS["default"] / PER_SYSTEM["default"])
    for number in range(systems):
        for test in ("shapes", "gradient"):
            timing.add(f"{file}::{test}[{number}]", "default", PER_SYSTEM["default"] / 2)
    assert timing.over() == []
    timing.add(f"{file}::shapes[1]", "default", 1)
    most = systems * PER_SYSTEM["default"]
    assert timing.over() == [
        f"{file}: {most + 1:.0f} s of processor time in the tier default, its budget is {most:.0f}"
    ]
