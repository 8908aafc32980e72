"""What tests cost, in processor time: the ten most expensive are printed, a file over its budget fails.

Processor time is that of the worker and of the processes that it waited for, compiling included. It is not
the time on the clock, which depends on what else the machine does. Budgets leave room for slower processors:
they are at least twice what the most expensive file of a tier was seen to take.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

TIERS = ("slow", "kernels", "peers")
BUDGETS = {"default": 45.0, "slow": 600.0, "kernels": 300.0, "peers": 1500.0}  # seconds for a file
PER_SYSTEM = {"default": 5.0, "slow": 40.0}  # for each system in the contract tests
CONTRACT = "tests/contract/"
SHOWN = 10


def processor_time() -> float:
    """Seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Timing:
    """A plugin that adds up what each test and each file cost, by tier.

    Attributes:
        tests: seconds by test.
        files: seconds by (file, tier).
        systems: how many each file of contract tests goes through, as it has tests of so many.
    """

    def __init__(self) -> None:
        self.tests: Counter[str] = Counter()
        self.files: Counter[tuple[str, str]] = Counter()
        self.systems: dict[str, set[str]] = {}
        self._started = processor_time()

    def pytest_collection_finish(self) -> None:
        """Imports and collecting are no test's."""
        self._started = processor_time()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Any:
        """Notes on each report, of setup, call and teardown, what went by since the one before."""
        report = yield
        now = processor_time()
        tier = next((tier for tier in TIERS if item.get_closest_marker(tier)), "default")
        report.user_properties = [("processor time", now - self._started), ("tier", tier)]
        self._started = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Adds a report up; with several workers, in the process that started them."""
        properties: Mapping[str, Any] = dict(report.user_properties)
        if "tier" in properties:
            self.add(report.nodeid, properties["tier"], properties["processor time"])

    def add(self, test: str, tier: str, seconds: float) -> None:
        """Counts a part of a test."""
        file = test.partition("::")[0]
        self.tests[test] += seconds
        self.files[file, tier] += seconds
        if file.startswith(CONTRACT):
            self.systems.setdefault(file, set()).add(test.partition("[")[2])

    def over(self) -> list[str]:
        """A line for each file over its budget."""
        lines = []
        for (file, tier), seconds in sorted(self.files.items()):
            systems = self.systems.get(file, ())
            budget = max(BUDGETS[tier], len(systems) * PER_SYSTEM.get(tier, 0))
            if seconds > budget:
                lines.append(
                    f"{file}: {seconds:.0f} s of processor time in the tier {tier}, its budget is "
                    f"{budget:.0f}"
                )
        return lines

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Prints the most expensive tests, and the files over budget."""
        terminalreporter.write_sep("=", f"the {SHOWN} most expensive tests, seconds of processor time")
        for test, seconds in self.tests.most_common(SHOWN):
            terminalreporter.write_line(f"{seconds:7.1f}  {test}")
        terminalreporter.write_sep("=", f"the {SHOWN} most expensive files")
        for (file, tier), seconds in self.files.most_common(SHOWN):
            terminalreporter.write_line(f"{seconds:7.1f}  {file}, tier {tier}")
        for line in self.over():
            terminalreporter.write_line(f"OVER BUDGET {line}", red=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A file over its budget is a failure."""
        if (
            self.over()
            and session.exitstatus == pytest.ExitCode.OK
            and not hasattr(session.config, "workerinput")
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
