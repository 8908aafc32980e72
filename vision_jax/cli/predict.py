"""`vision-jax predict`: a trained model on files, without any data set."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from vision_jax.cli.evaluate import build
from vision_jax.cli.runs import open_run
from vision_jax.data.codecs.images import read_image
from vision_jax.data.files.listing import read_lines
from vision_jax.tasks.images import find_images
from vision_jax.training.predict import predictor, recorded_spec
from vision_jax.types import UserError
from vision_jax.visualization import save_png


@dataclass(frozen=True)
class PredictOptions:
    """Runs a trained model on files; plots each with its predictions, and writes predictions.json.

    Attributes:
        run: the run folder.
        inputs: what the run's task predicts from: image files, and folders, whose images are all taken, those
            in folders inside too.
        out: folder for the pictures and predictions.json.
        which: the checkpoint with the best metric so far, or the last one.
    """

    run: Annotated[Path, tyro.conf.Positional]
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path = Path("out")
    which: Literal["last", "best"] = "last"


def run(words: Sequence[str]) -> int:
    """Predicts; a file that cannot be read is named on stderr, and the others are processed.

    Args:
        words: after `vision-jax predict`.

    Returns:
        The exit code: 0, or 1 if a file could not be read.

    Raises:
        UserError: a mistake in the options or the run folder, or no file could be read.
    """
    if any(word.split("=")[0] in ("--model", "--weights") for word in words):
        return predict_pretrained(words)
    options = tyro.cli(PredictOptions, prog="vision-jax predict", args=list(words))
    if not options.inputs:
        raise UserError("which files? vision-jax predict RUN image.jpg folder/ --out out/")
    experiment = build(open_run(options.run))
    task, spec = experiment.task, recorded_spec(experiment, options.run)
    files = task.find(options.inputs)
    predict = predictor(experiment, options.run, which=options.which, devices=1)
    options.out.mkdir(parents=True, exist_ok=True)
    answers: list[Any] = []
    pictures = _picture_names([file for file, _ in files])
    done = 0

    def batch_of(number: int, file: Path) -> Any:
        return task.prepare([task.read(file)], [number], spec)

    for number, name, batch in _read(files, batch_of):
        done += 1
        predictions = predict(batch)
        for answer in task.to_json(batch, predictions, spec)[0]:
            answers.append({"file": name, **answer})
        save_png(options.out / pictures[number], np.asarray(task.plot_predictions(batch, predictions, spec)))
    write_answers(options.out, "predictions.json", answers)
    failed = len(files) - done
    written = f"{done} pictures and predictions.json written to {options.out}"
    print(f"{written}; {failed} files could not be read" if failed else written)
    return 1 if failed else 0


def _read(
    files: Sequence[tuple[Path, str]], read: Callable[[int, Path], Any]
) -> Iterator[tuple[int, str, Any]]:
    """Each file's number, name and content; those that cannot be read are named on stderr."""
    failed = 0
    for number, (file, name) in enumerate(files):
        try:
            content = read(number, file)
        except UserError as error:
            failed += 1
            print(f"vision-jax: left out: {error}", file=sys.stderr, flush=True)
            continue
        yield number, name, content
    if failed == len(files):
        raise UserError(f"none of {failed} files could be read")


def write_answers(out: Path, name: str, answers: Sequence[Any]) -> None:
    """Writes a JSON list into a file of a folder, which is made if it is missing, an answer on each line."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(answer) for answer in answers)
    (out / name).write_text(f"[\n{lines}\n]\n")


@dataclass(frozen=True)
class PretrainedOptions:
    """Classifies images with weights from torchvision; prints the most probable classes of each.

    Attributes:
        images: image files, and folders, whose images are all taken, those in folders inside too.
        model: the architecture; `vision-jax models` lists them.
        weights: a .pth or .safetensors file of its state_dict, in which nothing is run; or a folder that
            `vision-jax convert` wrote.
        classes: a file with the name of each class on a line; without it classes are numbers.
        best: how many classes to print.
        out: folder for predictions.json; none is written if left out.
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    model: str
    weights: Path
    classes: Path | None = None
    best: int = 5
    out: Path | None = None


def predict_pretrained(words: Sequence[str]) -> int:
    """Classifies; an image that cannot be read is named on stderr, and the others are processed.

    Args:
        words: after `vision-jax predict`.

    Returns:
        The exit code: 0, or 1 if an image could not be read.

    Raises:
        UserError: a mistake in the options or the files, or no image could be read.
    """
    from vision_jax.pretrained.torchvision import from_torchvision

    options = tyro.cli(PretrainedOptions, prog="vision-jax predict", args=list(words))
    if not options.images:
        raise UserError("which images? vision-jax predict --model NAME --weights FILE image.jpg folder/")
    if options.best < 1:
        raise UserError(f"--best {options.best}: give 1 or more")
    images = list(find_images(options.images))
    network = from_torchvision(options.model, options.weights)
    classes = _class_names(options.classes, network.model.num_classes)
    answers = []
    for _, name, image in _read(images, lambda _, file: read_image(file)):
        found = {classes[k]: round(p, 5) for k, p in network.predict(image, options.best)}
        answers.append({"file": name, "best": found})
        print(name)
        for label, probability in found.items():
            print(f"  {probability:7.2%}  {label}")
    if options.out is not None:
        write_answers(options.out, "predictions.json", answers)
        print(f"predictions.json written to {options.out}")
    return 1 if len(answers) < len(images) else 0


def _class_names(file: Path | None, count: int) -> list[str]:
    if file is None:
        return [f"class {k}" for k in range(count)]
    names = [line for line in read_lines(file) if line]
    if len(names) != count or len(set(names)) != count:
        raise UserError(
            f"{file} has {len(set(names))} names on {len(names)} lines, the weights {count} classes"
        )
    return names


def _picture_names(images: Sequence[Path]) -> list[str]:
    """A PNG's name for each image; equal names get a number."""
    names: list[str] = []
    for file in images:
        name, number = f"{file.stem}.png", 2
        while name in names:
            name, number = f"{file.stem}-{number}.png", number + 1
        names.append(name)
    return names
