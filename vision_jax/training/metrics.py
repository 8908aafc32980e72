"""The numbers of a run over its steps: metrics.csv, TensorBoard's events, and averages between rows."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vision_jax.training.files import write_atomically

logger = logging.getLogger("vision_jax")

Row = dict[str, float]


class MetricsFile:
    """metrics.csv: one row for each write, one column for each name ever written, blank where absent.

    The first column is `step`. Columns named `time/...` differ between runs; all others are equal in two
    runs of one seed.

    Args:
        path: the file; made on the first row.
        keep: how many rows to keep of an existing file, those before the checkpoint that the run resumes
            from; later ones will be written again.
        writes: False in processes that do not write the file.
    """

    def __init__(self, path: Path, keep: int = 0, writes: bool = True) -> None:
        self.path = path
        self._writes = writes
        rows = read_metrics(path)
        if len(rows) < keep:
            logger.warning("%s has %d rows of the %d before the checkpoint", path, len(rows), keep)
        self.rows: list[Row] = rows[:keep]
        self._columns: list[str] = ["step"]
        for row in self.rows:
            self._grow(row)
        if writes and path.exists():
            self._rewrite()

    def append(self, row: Mapping[str, float]) -> None:
        """Adds a row, which reaches the file at once.

        Args:
            row: with `step`; other names become columns when they first appear.

        Raises:
            OSError: the disk is full; the rows before are unchanged.
        """
        row = {name: float(value) for name, value in row.items()}
        self.rows.append(row)
        if not self._writes:
            return
        if self._grow(row) or not self.path.exists():
            self._rewrite()
            return
        with self.path.open("a", newline="") as file:
            file.write(_line(self._columns, row))

    def sync(self) -> None:
        """Waits until the operating system has written the rows to the disk."""
        if self._writes and self.path.exists():
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())

    def _grow(self, row: Mapping[str, float]) -> bool:
        """Adds columns for the row's new names; whether there were any."""
        new = [name for name in row if name not in self._columns]
        self._columns += new
        return bool(new)

    def _rewrite(self) -> None:
        lines = [_format(self._columns), *(_line(self._columns, row) for row in self.rows)]
        write_atomically(self.path, "".join(lines))


def read_metrics(path: Path) -> list[Row]:
    """Reads metrics.csv.

    Args:
        path: the file; an incomplete last line, of a killed run, is left out.

    Returns:
        For each row, the values it has by column; no rows if there is no file.
    """
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    rows = []
    for cells in csv.DictReader(line for line in lines if line.endswith("\n")):
        rows.append({name: float(value) for name, value in cells.items() if name and value})
    return rows


class Meter:
    """Means over the steps since the last row, in float64; its state is a dict that a checkpoint can hold.

    Args:
        sums: what `state` returned; None for none.
    """

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self._sums = dict(sums or {})

    def add(self, values: Mapping[str, float]) -> None:
        """Adds one step's values; the names are the same at each step."""
        self._sums["count"] = self._sums.get("count", 0.0) + 1
        for name, value in values.items():
            self._sums[f"sum/{name}"] = self._sums.get(f"sum/{name}", 0.0) + value

    def means(self) -> Row:
        """The means by name; empty if nothing was added."""
        count = self._sums.get("count", 0.0)
        return {k.removeprefix("sum/"): v / count for k, v in self._sums.items() if k != "count"}

    def state(self) -> dict[str, float]:
        """The sums so far."""
        return dict(self._sums)

    def clear(self) -> None:
        """Starts again from no step."""
        self._sums.clear()


class TensorBoard:
    """Scalars for TensorBoard, through tensorboardX.

    Its `SummaryWriter` writes from a thread, where the error of a full disk is lost or hangs the run; here
    the events are written at once.

    Args:
        folder: of the event files; each start of the run adds one.
        purge_step: TensorBoard ignores earlier files from this step on; None for a new run.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self._folder = folder
        self._purge_step = purge_step
        self._events: Any = None

    def write(self, row: Mapping[str, float]) -> None:
        """Writes a row of metrics.csv; its `step` is the x axis, undefined values are left out.

        Raises:
            OSError: the disk is full.
        """
        from tensorboardX.summary import scalar

        if self._events is None:
            self._events = self._start()
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                self._write(step=int(row["step"]), summary=scalar(name, value))
        self._events.flush()

    def close(self) -> None:
        """Closes the event file; errors of a full disk were reported when it was written."""
        if self._events is not None:
            with suppress(OSError):
                self._events.close()
            self._events = None

    def _start(self) -> Any:
        """Opens an event file and writes its first event."""
        from tensorboardX.event_file_writer import EventsWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(self._folder / "events"), f".{time.time_ns()}")
        if self._purge_step is not None:
            status = _event_protos().SessionLog.START
            self._write(step=self._purge_step, session_log=_event_protos().SessionLog(status=status))
        return self._events

    def _write(self, **content: Any) -> None:
        self._events.write_event(_event_protos().Event(wall_time=time.time(), **content))


def _event_protos() -> Any:
    """The module of event protocol buffers, whose classes exist only once it runs."""
    from tensorboardX.proto import event_pb2

    return event_pb2


def _format(cells: list[str]) -> str:
    """Cells as a line of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _line(columns: list[str], row: Mapping[str, float]) -> str:
    """A row as a line of a CSV file, blank in columns that it lacks."""
    return _format([_number(row[name]) if name in row else "" for name in columns])


def _number(value: float) -> str:
    """The shortest text that reads back to the same float; whole numbers without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
