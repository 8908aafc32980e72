"""`vision-jax show`: an experiment's data before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_jax.cli.experiments import parse
from vision_jax.cli.origins import load_experiment, needed_origin
from vision_jax.cli.tables import print_metrics, print_tables
from vision_jax.training.experiment import Data, Experiment
from vision_jax.training.memory import per_example, step_memory
from vision_jax.types import UserError

USAGE = """\
usage: vision-jax show EXPERIMENT [options]

EXPERIMENT is a recipe (mask_rcnn), the folder of a claim, or a Python file.

Prints the numbers of images, objects and sizes of an experiment's data, and writes a picture of training
images as the model sees them. Takes the experiment's own options (`--data SPEC`, ...), and:

  --out FOLDER     where the picture and tables go; out/show-NAME if left out
  --memory N M ... instead, compile a training step for so many examples on one device, and print the memory
                   that it needs, and what an example more costs; nothing is trained
"""


@dataclass(frozen=True)
class ShowOptions:
    """Where it goes.

    Attributes:
        out: folder for the picture and the tables; out/show-NAME if left out.
        memory: examples of one device, two numbers or more: instead, compile a training step for each
            (nothing is trained) and print what memory it needs, and what an example more costs.
    """

    out: Path | None = None
    memory: tuple[int, ...] = ()


def run(words: Sequence[str]) -> None:
    """Prints counts and sizes, and writes a picture; or prints what memory a step needs.

    Args:
        words: after `vision-jax show`.

    Raises:
        UserError: a mistake in the experiment, the options or the data.
    """
    origin, rest = needed_origin(words, "show", USAGE)
    function = load_experiment(origin)
    arguments, options = parse(function, rest, f"vision-jax show {origin.word}", ShowOptions())
    experiment = function(**arguments)
    data = experiment.task.open(None)
    if options.memory:
        print(_memory(experiment, data, options.memory))
        return
    report = data.summary()
    print_metrics(report.metrics)
    print_tables(report.tables)
    out = options.out or Path("out") / f"show-{origin.name}"
    report.write(out)
    print(f"written: {', '.join(str(out / name) for name in [*report.tables, *report.files])}")


def _memory(experiment: Experiment, data: Data, images: Sequence[int]) -> str:
    if len(set(images)) < 2 or min(images) < 1:
        raise UserError("--memory: give two different numbers of examples or more, such as --memory 1 2 4")
    found = step_memory(experiment, data, sorted(set(images)))
    lines = [
        "| examples of a device | state | inputs | work | in all |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for memory in found:
        parts = (memory.state, memory.inputs, memory.work, memory.total)
        lines.append(f"| {memory.examples} | {' | '.join(f'{part / 2**20:,.0f}' for part in parts)} |")
    fixed, slope = per_example(found)
    formula = f"MiB of a device = {fixed / 2**20:,.0f} + {slope / 2**20:,.0f} x examples"
    return "\n".join([*lines, f"\nMiB, as the compiler planned them. {formula}"])
