"""`vision-jax show`: an experiment's data before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_jax.cli.experiments import load_experiment, parse
from vision_jax.cli.tables import print_metrics, print_tables
from vision_jax.cli.train import split_file
from vision_jax.types import UserError

USAGE = """\
usage: vision-jax show EXPERIMENT.py [options]

Prints the numbers of images, objects and sizes of an experiment's data, and writes a picture of training
images as the model sees them. Takes the experiment's own options (`--data SPEC`, ...), and:

  --out FOLDER     where the picture and tables go; out/show-NAME if left out
"""


@dataclass(frozen=True)
class ShowOptions:
    """Where it goes.

    Attributes:
        out: folder for the picture and the tables; out/show-NAME if left out.
    """

    out: Path | None = None


def run(words: Sequence[str]) -> None:
    """Prints counts and sizes, and writes a picture.

    Args:
        words: after `vision-jax show`.

    Raises:
        UserError: a mistake in the file, the options or the data.
    """
    file, rest = split_file(words)
    if file is None:
        if not rest or "-h" in rest or "--help" in rest:
            print(USAGE, end="")
            raise SystemExit(0 if rest else 2)
        raise UserError("which experiment? `vision-jax show EXPERIMENT.py [options]`")
    function = load_experiment(file)
    arguments, options = parse(function, rest, f"vision-jax show {file}", ShowOptions())
    report = function(**arguments).task.open(None).summary()
    print_metrics(report.metrics)
    print_tables(report.tables)
    out = options.out or Path("out") / f"show-{file.stem}"
    report.write(out)
    print(f"written: {', '.join(str(out / name) for name in [*report.tables, *report.files])}")
