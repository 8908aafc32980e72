"""`vision-jax convert-data`: a data set written as records, and what that gained."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vision_jax.data.convert import convert, images_per_second
from vision_jax.data.family import Family, family_named
from vision_jax.data.open import location_of, open_data, usual_task
from vision_jax.data.storage.encoding import Encoding
from vision_jax.training.files import storage_errors
from vision_jax.types import UserError

_EVERY = 10.0  # seconds between lines of progress
_MEASURED = 256


@dataclass(frozen=True)
class ConvertDataOptions:
    """Writes a data set, training and evaluation split, as records that `--data records:FOLDER` opens.

    Attributes:
        data: the data set, as --data names it: coco:FOLDER, voc:FOLDER?val=test, tfds:FOLDER, synthetic, ...
        out: the folder to write; it must not exist, or be empty.
        task: what the records are for (detection, instances, segmentation, classification); left out, what
            the data are usually for. Records for instances also serve as detection.
        size: (long, short) sides in pixels that larger images are shrunk to fit into; none is enlarged.
        encoding: of the images; png loses nothing, and takes more room and time.
        quality: of jpeg, 1 to 100.
    """

    data: Annotated[str, tyro.conf.Positional]
    out: Path
    task: str | None = None
    size: tuple[int, int] | None = None
    encoding: Literal["jpeg", "png"] = "jpeg"
    quality: int = 95


def run(words: Sequence[str]) -> None:
    """Converts, and prints bytes and reading speed before and after.

    Args:
        words: after `vision-jax convert-data`.

    Raises:
        UserError: a mistake in the options or the data, or the folder cannot be written.
    """
    options = tyro.cli(ConvertDataOptions, prog="vision-jax convert-data", args=list(words))
    if options.size is not None and not 1 <= options.size[1] <= options.size[0]:
        raise UserError(f"--size {options.size[0]} {options.size[1]}: long side first, both at least 1")
    if not 1 <= options.quality <= 100:
        raise UserError(f"--quality {options.quality}: give 1 to 100")
    family = family_named(options.task or usual_task(options.data))
    encoding = Encoding(options.encoding, options.quality, options.size)
    before = open_data(family, options.data)
    with storage_errors(options.out):
        convert(before, family, options.out, encoding, options.data, _Progress())
    after = open_data(family, f"records:{options.out}")
    print(_gain(options, family, before, after))


class _Progress:
    """Prints a line now and then, and one at the end of a split."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY

    def __call__(self, split: str, done: int, length: int) -> None:
        if done == length or time.monotonic() > self._next:
            self._next = time.monotonic() + _EVERY
            print(f"{split}: {done} of {length} images written", file=sys.stderr, flush=True)


def _gain(
    options: ConvertDataOptions, family: Family[Any], before: tuple[Any, Any], after: tuple[Any, Any]
) -> str:
    path = location_of(options.data)
    speeds = [images_per_second(sources[0], family, _MEASURED) for sources in (before, after)]
    count = len(after[0]) + (0 if after[1] is after[0] else len(after[1]))
    rows = [
        (f"bytes, all files ({count} images written)", path and file_bytes(path), file_bytes(options.out)),
        (f"images/s, {min(_MEASURED, len(after[0]))} training images, one thread", *speeds),
    ]
    lines = [f"| {family.name} | before | after |", "| --- | ---: | ---: |"]
    for name, *values in rows:
        lines.append(f"| {name} | {' | '.join(map(_number, values))} |")
    return "\n".join([*lines, f"\nwritten: {options.out}; use it with --data records:{options.out}"])


def _number(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def file_bytes(path: Path) -> int:
    """The bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(Path(folder, name).stat().st_size for folder, _, names in os.walk(path) for name in names)
