"""Running a sweep: each trial that is not done runs once, in a process, until all have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from vision_jax.sweeps.board import Board, Line
from vision_jax.sweeps.folder import State, SweepFolder, Trial
from vision_jax.sweeps.progress import Watcher
from vision_jax.sweeps.workers import Job, Workers
from vision_jax.training.origin import Origin
from vision_jax.training.stopping import StopRequest

_PAUSE = 0.2  # seconds between looks at the trials
_ASKED_TO_STOP = (143, 130, -15, -2)
_SHOWN_LINES = 40  # of a failed trial's output
_LONGEST_COMPILATION = 300.0  # seconds after which trials of the same program no longer wait


@dataclass
class _Running:
    trial: Trial
    slot: int
    job: Job
    since: float
    done_before: float  # the fraction of its steps that earlier processes did


def run_trials(
    folder: SweepFolder,
    trials: Sequence[Trial],
    origin: Origin,
    workers: Workers,
    board: Board,
    retry_failed: bool = False,
) -> dict[str, State]:
    """Runs what is not done.

    A trial that was cut off goes on; one that fails is recorded and the others go on. Of trials with the same
    program the first is past compiling before others start, which then find it compiled.

    Args:
        folder: begun, and locked.
        trials: wanted, in the order in which they start.
        origin: the experiment's.
        workers: run them.
        board: shows how far they are.
        retry_failed: whether trials that failed are tried again: those begun with this very file go on,
            others begin anew.

    Returns:
        The state of each trial by name.

    Raises:
        UserError: a failure cannot be recorded.
        Stopped: (a `SystemExit`) on SIGINT or SIGTERM, once every trial has saved its state.
    """
    states: dict[str, State] = {trial.name: folder.state(trial) for trial in trials}
    for trial in trials:
        if states[trial.name] == "failed" and retry_failed:
            if folder.outdated(trial, origin):
                folder.forget(trial)
            folder.failure(trial).unlink(missing_ok=True)
            states[trial.name] = folder.state(trial)
    waiting = [trial for trial in trials if states[trial.name] in ("waiting", "cut off")]
    running: list[_Running] = []
    watch = Watcher()
    began, finished = time.monotonic(), 0.0

    def line(trial: Trial, since: float | None) -> Line:
        took = None if since is None else time.monotonic() - since
        return Line(trial.name, states[trial.name], watch(folder.run_folder(trial)), took)

    with StopRequest() as stop, board:
        stop.waits = True
        try:
            while waiting or running:
                for slot in sorted(set(range(workers.slots)) - {entry.slot for entry in running}):
                    trial = _next(waiting, running, folder, watch)
                    if trial is None:
                        break
                    waiting.remove(trial)
                    done_before = watch(folder.run_folder(trial)).fraction
                    job = workers.start(slot, _words(folder, trial, origin.word), folder.output(trial))
                    running.append(_Running(trial, slot, job, time.monotonic(), done_before))
                    states[trial.name] = "running"
                for entry in list(running):
                    code = entry.job.poll()
                    if code is None:
                        continue
                    running.remove(entry)
                    states[entry.trial.name] = _ended(folder, entry.trial, code)
                    finished += 1 - entry.done_before
                    failed = states[entry.trial.name] == "failed"
                    reason = failure_line(folder, entry.trial) if failed else ""
                    board.ended(line(entry.trial, entry.since), reason)
                since = {entry.trial.name: entry.since for entry in running}
                parts = [
                    watch(folder.run_folder(entry.trial)).fraction - entry.done_before for entry in running
                ]
                seconds, done = time.monotonic() - began, finished + sum(parts)
                to_do = len(waiting) + sum(1 - entry.done_before for entry in running) - sum(parts)
                left = seconds / done * to_do if done > 0.05 else None
                board.show([line(trial, since.get(trial.name)) for trial in trials], seconds, left)
                stop.raise_if_received()
                time.sleep(_PAUSE)
        finally:
            _stop_all(running, board)
    return states


def _next(
    waiting: Sequence[Trial], running: Sequence[_Running], folder: SweepFolder, watch: Watcher
) -> Trial | None:
    """The first trial whose program no other trial is compiling just now."""
    recent = time.monotonic() - _LONGEST_COMPILATION
    compiling = {
        entry.trial.program
        for entry in running
        if entry.since > recent and not watch(folder.run_folder(entry.trial)).compiled
    }
    return next((trial for trial in waiting if trial.program not in compiling), None)


def _words(folder: SweepFolder, trial: Trial, word: str) -> list[str]:
    run = str(folder.run_folder(trial))
    if folder.state(trial) == "cut off":
        return ["train", "--resume", run]
    return ["train", word, *trial.words, "--out", run]


def _ended(folder: SweepFolder, trial: Trial, code: int) -> State:
    state = folder.state(trial)
    if state == "done" or code in _ASKED_TO_STOP:
        return state  # where someone stopped this one trial, the next sweep goes on with it
    output = folder.output(trial).read_text(errors="replace") if folder.output(trial).is_file() else ""
    said = "\n".join(output.rstrip().splitlines()[-_SHOWN_LINES:])
    how = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
    if code == -9:
        how += " (killed from outside; where memory ran out, the system does that)"
    folder.write_failure(trial, f"{said}\n{how}".lstrip())
    return "failed"


def failure_line(folder: SweepFolder, trial: Trial) -> str:
    """The line of a failed trial's record that says what was wrong."""
    lines = [line for line in folder.failure(trial).read_text().splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("vision-jax: "):
            return line.removeprefix("vision-jax: ")
    return lines[-2] if len(lines) > 1 and lines[-1].startswith("ended with code 1") else lines[-1]


def _stop_all(running: Sequence[_Running], board: Board) -> None:
    """Asks what runs to save and end, and waits; a second Ctrl-C ends it at once."""
    if not running:
        return
    board.note(f"stopping {len(running)} trials; they save their state ...")
    for entry in running:
        entry.job.stop()
    try:
        while any(entry.job.poll() is None for entry in running):
            time.sleep(_PAUSE)
    except BaseException:
        for entry in running:
            entry.job.stop(now=True)
        raise
