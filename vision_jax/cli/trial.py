"""`python -m vision_jax.cli.trial CORES COMMAND ...`: one trial of a sweep, as its sweep starts it.

Runs on the given cores alone (`0,1`), and ends with the sweep that started it: when the standard
input is at its end, that process is gone.
"""

from __future__ import annotations

import os
import sys
import threading


def run() -> int:
    """Runs one command in this process.

    Returns:
        Its exit code.
    """
    cores, *words = sys.argv[1:]
    listed = cores.split(",")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(map(int, listed)))
    os.environ["NPROC"] = str(len(listed))  # XLA's threads, where cores cannot be chosen
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()

    from vision_jax.cli import main

    return main(words)


def _end_with_the_sweep() -> None:
    while os.read(0, 1024):
        pass
    os._exit(143)


if __name__ == "__main__":
    sys.exit(run())
