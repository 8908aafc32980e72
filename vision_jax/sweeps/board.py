"""What a person sees of a sweep: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision_jax.sweeps.folder import State
from vision_jax.sweeps.progress import TrialProgress
from vision_jax.training.console import clock

_MOST_LINES = 24  # of a live table
_LOOKS = {"done": "green", "running": "bold", "failed": "red", "cut off": "yellow", "waiting": "dim"}


@dataclass(frozen=True)
class Line:
    """A trial as the board shows it.

    Attributes:
        name: of the trial.
        state: of the trial.
        progress: of its run.
        seconds: since it started here; None where it did not.
    """

    name: str
    state: State
    progress: TrialProgress
    seconds: float | None


class Board:
    """Shows a sweep while it is open.

    Args:
        metrics: of which the first that a trial has is shown; without any, the run's own, which decides its
            best checkpoint.
    """

    def __init__(self, metrics: Sequence[str] = ()) -> None:
        from rich.console import Console

        self._metrics = metrics
        self._console = Console()
        self._live: Any = None
        self._said: dict[str, State] = {}

    def __enter__(self) -> Board:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, lines: Sequence[Line], seconds: float, left: float | None) -> None:
        """Shows where all trials are.

        Args:
            lines: one a trial.
            seconds: since the start.
            left: an estimate; None if there is none yet.
        """
        if self._live is not None:
            self._live.update(self._table(lines, seconds, left))
            return
        for line in lines:
            if line.state == "running" and self._said.get(line.name) != "running":
                self.note(f"{line.name}: running")
            self._said[line.name] = line.state

    def ended(self, line: Line, reason: str) -> None:
        """Says how a trial ended.

        Args:
            line: the trial's.
            reason: why it failed; empty if it did not.
        """
        took = f" after {clock(line.seconds)}" if line.seconds is not None else ""
        shown = f"  {self._name(line)} {self._value(line)}" if line.state == "done" else ""
        self.note(f"{line.name}: {line.state}{took}{shown}{': ' if reason else ''}{reason}")

    def note(self, text: str) -> None:
        """Prints a line; above the table, where there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _name(self, line: Line) -> str:
        return next((m for m in self._metrics if m in line.progress.metrics), line.progress.metric)

    def _value(self, line: Line) -> str:
        value = line.progress.metrics.get(self._name(line))
        return "" if value is None else f"{value:.4g}"

    def _table(self, lines: Sequence[Line], seconds: float, left: float | None) -> Any:
        from rich.table import Table

        table = Table(title=headline(lines, seconds, left), title_justify="left", title_style="")
        table.add_column("trial", overflow="fold")
        shown = {self._name(line) for line in lines if line.progress.metrics}
        metric = shown.pop() if len(shown) == 1 else "metric"
        for name in ("state", "step", metric, "time"):
            table.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
        for line in _most_telling(lines):
            steps = f"{line.progress.step}/{line.progress.steps}" if line.progress.steps else ""
            took = "" if line.seconds is None else clock(line.seconds)
            cells = (line.name, line.state, steps, self._value(line), took)
            table.add_row(*cells, style=_LOOKS[line.state])
        hidden = len(lines) - table.row_count
        if hidden:
            table.caption = f"and {hidden} more"
        return table


def headline(lines: Sequence[Line], seconds: float, left: float | None) -> str:
    """How many trials are in which state, the time taken, and the time left."""
    counts = Counter(line.state for line in lines)
    states = ", ".join(f"{counts[state]} {state}" for state in _LOOKS if counts[state])
    return f"{states}; {clock(seconds)} so far" + ("" if left is None else f", about {clock(left)} to go")


def _most_telling(lines: Sequence[Line]) -> list[Line]:
    """As many as fit: what runs and failed first, then what is done, then what waits; in their order."""
    order = ("running", "failed", "cut off", "done", "waiting")
    ranked = sorted(range(len(lines)), key=lambda i: (order.index(lines[i].state), i))
    return [lines[i] for i in sorted(ranked[:_MOST_LINES])]
