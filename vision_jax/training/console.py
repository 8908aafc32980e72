"""What a run prints: a progress bar on a terminal, plain lines elsewhere, all lines in log.txt."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vision_jax.types import UserError

logger = logging.getLogger("vision_jax")


class Console:
    """Shows a run while it is open, and sends this package's log to log.txt.

    Args:
        log: log.txt, appended to.
        quiet: print warnings alone, where another process prints the rest.
    """

    def __init__(self, log: Path, quiet: bool = False) -> None:
        from rich.console import Console as RichConsole

        self._log = log
        self._rich = RichConsole(stderr=False)
        self._live = self._rich.is_terminal and not quiet
        self._quiet = quiet
        self._handlers: list[logging.Handler] = []
        self._bar: Any = None
        self._task: Any = None
        self._before = (logger.level, logger.propagate)

    def __enter__(self) -> Console:
        plain = logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%Y-%m-%d %H:%M:%S")
        file = _PatientFileHandler(self._log)
        file.setFormatter(plain)
        if self._live:
            from rich.logging import RichHandler

            screen: logging.Handler = RichHandler(
                console=self._rich, show_path=False, show_level=False, omit_repeated_times=False
            )
        else:
            screen = logging.StreamHandler(sys.stdout)
            screen.setFormatter(plain)
        if self._quiet:
            screen.setLevel(logging.WARNING)
        self._handlers = [file, screen]
        for handler in self._handlers:
            logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self.end_stage()
        if isinstance(error, UserError):  # the caller prints it
            self._to_file(logging.ERROR, str(error))
        elif isinstance(error, Exception):
            self._to_file(logging.ERROR, "".join(traceback.format_exception(error)).rstrip())
        for handler in self._handlers:
            logger.removeHandler(handler)
            with suppress(OSError):
                handler.close()
        level, logger.propagate = self._before
        logger.setLevel(level)

    def start_stage(self, name: str, steps: int, done: int) -> None:
        """Starts the bar of a stage that has taken `done` of its `steps`."""
        if not self._live:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self._rich,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=steps, completed=done, text="compiling the step ...")
        self._bar.start()

    def step(self, done: int, losses: Mapping[str, float], times: Mapping[str, float]) -> None:
        """Moves the bar.

        Args:
            done: steps taken in the stage.
            losses: by name, means since the last row.
            times: `time/examples_per_second` and `time/waiting`, the fraction of time spent waiting for data.
        """
        if self._bar is not None:
            speed, waiting = times["time/examples_per_second"], times["time/waiting"]
            means = "  ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
            self.note(f"{means}  {speed:.1f} examples/s  waiting for data {waiting:.0%}")
            self._bar.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """Replaces the text beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, text=text)

    def row(self, done: int, steps: int, values: dict[str, float], seconds_left: float) -> None:
        """Logs one line about the steps since the last: loss terms, speed, time left.

        Args:
            done: steps taken in the stage.
            steps: of the stage.
            values: a row of metrics.csv.
            seconds_left: estimated, of the stage.
        """
        terms = "  ".join(
            f"{name.removeprefix('train/')} {value:.4g}"
            for name, value in values.items()
            if name.startswith("train/")
        )
        line = (
            f"step {done}/{steps}  {terms}  {values['time/examples_per_second']:.1f} examples/s  "
            f"waiting for data {values['time/waiting']:.0%}  ETA {clock(seconds_left)}"
        )
        self.line(line)

    def advance(self, done: int, text: str) -> None:
        """Moves the bar to `done` and replaces the text beside it."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)

    def line(self, text: str) -> None:
        """Logs what the bar says already: on a terminal to log.txt alone."""
        if self._live:
            self._to_file(logging.INFO, text)
        else:
            logger.info("%s", text)

    def end_stage(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _to_file(self, level: int, text: str) -> None:
        self._handlers[0].handle(logger.makeRecord(logger.name, level, "", 0, text, (), None))


class StageProgress:
    """Shows how far a stage without gradients has come; a context in which that stage runs.

    After each minute without a word from it, the log tells the time since its start.

    Args:
        console: of the run.
        name: of the stage.
    """

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._began = self._told = time.perf_counter()
        self._first: tuple[int, float] | None = None
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> StageProgress:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        self._console.end_stage()

    def __call__(self, done: int, total: int, what: str = "examples") -> None:
        """Tells the progress: the bar on a terminal, elsewhere a line at most every 10 s and at the end.

        Args:
            done: how many are done; the rate is counted from the first call on.
            total: of how many.
            what: they are.
        """
        now = time.perf_counter()
        if self._first is None:
            self._first = done, now
            self._console.start_stage(self._name, total, done)
        before, since = self._first
        rate = (done - before) / (now - since) if done > before else 0.0
        speed = f"{rate:.1f} {what}/s" if rate else what
        self._console.advance(done, speed)
        if now - self._told >= _LINE_SECONDS or done == total:
            self._told = now
            left = f"  ETA {clock((total - done) / rate)}" if rate and done < total else ""
            self._console.line(f"stage {self._name}: {done}/{total}  {speed}{left}")

    def _tick(self) -> None:
        """Logs the time since the start after each silent minute."""
        while not self._ended.wait(1.0):
            now = time.perf_counter()
            if now - self._told >= _SILENT_SECONDS:
                self._told = now
                logger.info("stage %s: %s since its start", self._name, clock(now - self._began))


_LINE_SECONDS = 10.0
_SILENT_SECONDS = 60.0


class _PatientFileHandler(logging.FileHandler):
    """A log that prints no traceback on a full disk, which the checkpoint's error reports better."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def clock(seconds: float) -> str:
    """A duration as text: `4:07`, `1:02:30`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
