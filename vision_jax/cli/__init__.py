"""The command line: `vision-jax COMMAND ...`, one module a command.

Commands are imported when they are asked for, and say something before the slow imports begin.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import logging
import os
import sys
from collections.abc import Sequence

USAGE = """\
usage: vision-jax COMMAND ...

  train    EXPERIMENT [options]           train, and write a run folder
  show     EXPERIMENT [options]           look at an experiment's data: counts, sizes, a picture
  evaluate RUN [options]                  evaluate a run's checkpoint: tables, pictures, predictions.json
  predict  RUN FILE ... [options]         run a trained model on images and folders of them
  sample   RUN [options]                  what a generative model makes without input
  predict  --model NAME --weights FILE IMAGE ...   the same with weights from torchvision
  models                                  the classifiers by name: sizes, costs, feature maps
  convert  WEIGHTS --model NAME --out FOLDER       torchvision's weights as a checkpoint
  convert-data DATA --out FOLDER          write a data set as records, for fast loading
  sweep    EXPERIMENT [options]           run every trial of a claim's SWEEP, and report
  report   SWEEP                          a sweep's table, figure and verdicts
  report   --index FOLDER                 one page of the verdicts of all claims below a folder
  benchmark [--peers] [--only CASE ...]   measure speed and memory of this machine, beside torchvision

EXPERIMENT is a recipe (faster_rcnn, mask_rcnn, segmenter, image_classifier, ...), the folder of a claim, or a
Python file with a function `experiment`.

vision-jax COMMAND --help lists a command's options, and
vision-jax train mask_rcnn --help the experiment's own, with their types and defaults.
"""

COMMANDS = (
    "train",
    "show",
    "evaluate",
    "predict",
    "sample",
    "models",
    "convert",
    "convert-data",
    "sweep",
    "report",
    "benchmark",
)


# Huge pages, and memory that was freed is kept: nothing is mapped for one use, and one arena serves all
# threads (the others cannot hold a step's memory).
MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:"
    f"glibc.malloc.trim_threshold={1 << 40}:glibc.malloc.arena_max=1"
)


def console() -> int:
    """The program `vision-jax`: `main`, with the C library's memory in huge pages and kept when it is freed.

    A training step takes its memory anew each time. In pages of 4 KiB that is over 100,000 page faults a
    step of ResNet-50 on 4 images, a fifth of its time on two cores; in huge pages it is 600, whose clearing
    takes a tenth; kept, 30. glibc reads this wish once, when a process starts: so the program starts
    itself again, under the same process id. One who has set GLIBC_TUNABLES is left alone.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        words = [sys.executable, *sys.orig_argv[1:]]
        with contextlib.suppress(OSError):
            os.execve(sys.executable, words, {**os.environ, "GLIBC_TUNABLES": MALLOC})
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the words after `vision-jax`; the process's own if None.

    Returns:
        The exit code: 0; 1 where a part of the input was left out; 2 for a mistake; 130 when interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("vision_jax"))
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        return _complain(f"there is no command `{command}`.{hint} Commands: {', '.join(COMMANDS)}.")
    logging.basicConfig(format="%(name)s: %(message)s")
    if rest and "-h" not in rest and "--help" not in rest:
        print(f"vision-jax {command} {rest[0]}: starting", file=sys.stderr, flush=True)
    try:
        module = importlib.import_module(f"vision_jax.cli.{command.replace('-', '_')}")
        return module.run(rest) or 0
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        # Whoever read the output has enough (`| head`); Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from vision_jax.types import UserError

        if not isinstance(error, UserError):
            raise
        return _complain(str(error))


def _complain(message: str, code: int = 2) -> int:
    print(f"vision-jax: {message}", file=sys.stderr, flush=True)
    return code
