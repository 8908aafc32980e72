"""`vision-jax sample`: what a trained model makes without input, by random numbers alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from vision_jax.cli.evaluate import build
from vision_jax.cli.predict import write_answers
from vision_jax.cli.runs import open_run
from vision_jax.training.predict import PLOTTED_EXAMPLES, evaluation_batch_size, predictor, recorded_spec
from vision_jax.types import UserError, stack_pictures
from vision_jax.visualization import save_png


@dataclass(frozen=True)
class SampleOptions:
    """Samples from a trained model; writes samples.json and a picture of the first samples, samples.png.

    Attributes:
        run: the run folder.
        count: how many samples.
        first: number of the first one: sample n of a checkpoint is always the same.
        out: folder for samples.json and samples.png.
        which: the checkpoint with the best metric so far, or the last one.
    """

    run: Annotated[Path, tyro.conf.Positional]
    count: int = 64
    first: int = 0
    out: Path = Path("out")
    which: Literal["last", "best"] = "last"


def run(words: Sequence[str]) -> None:
    """Samples.

    Args:
        words: after `vision-jax sample`.

    Raises:
        UserError: a mistake in the options or the run folder, or a task that predicts from inputs alone.
    """
    options = tyro.cli(SampleOptions, prog="vision-jax sample", args=list(words))
    if options.count < 1 or options.first < 0:
        raise UserError(f"--count {options.count} --first {options.first}: give 1 or more, and 0 or more")
    experiment = build(open_run(options.run))
    task, spec = experiment.task, recorded_spec(experiment, options.run)
    predict = predictor(experiment, options.run, which=options.which, devices=1)
    size = min(options.count, evaluation_batch_size(experiment, 1))
    answers: list[Any] = []
    pictures = []
    seconds: list[float] = []
    for start in range(options.first, options.first + options.count, size):
        # The last batch is full too, so that all are one program; what is too many is dropped.
        batch = task.blank(range(start, start + size), spec)
        began = time.perf_counter()
        predictions = predict(batch)
        seconds.append((time.perf_counter() - began) / size)
        for number, found in enumerate(task.to_json(batch, predictions, spec), start):
            answers += [{"sample": number, **answer} for answer in found]
        if start - options.first < PLOTTED_EXAMPLES:
            pictures.append(task.plot_predictions(batch, predictions, spec))
    answers = [answer for answer in answers if answer["sample"] < options.first + options.count]
    write_answers(options.out, "samples.json", answers)
    save_png(options.out / "samples.png", np.asarray(stack_pictures(pictures, gap=0)))
    # The first batch compiles.
    each = f", {np.median(seconds[1:]):.3g} s each" if seconds[1:] else ""
    print(f"{options.count} samples{each}: samples.json and samples.png written to {options.out}")
