"""Writes any data set as records, pictures encoded anew and, if wanted, smaller.

A picture is made smaller, never larger, as for training: areas averaged, aspect kept, boxes and areas scaled
with it, the nearest label; a pixel of a mask is set where half of it is covered. What was made smaller is the
original from then on: small, medium and large objects are told by its pixels.

A conversion writes into a hidden folder beside its destination, which gets its name when all is there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vision_jax.data.family import Family, S
from vision_jax.data.sources import Source, spread
from vision_jax.data.storage.encoding import Encoding
from vision_jax.data.storage.files import Contents, Split, SplitWriter, pack_json
from vision_jax.data.storage.layout import RecordLayout
from vision_jax.types import UserError, is_system_name

T = TypeVar("T")


def convert(
    sources: tuple[S, S],
    family: Family[S],
    out: Path,
    encoding: Encoding,
    origin: str,
    progress: Callable[[str, int, int], None] = lambda split, done, length: None,
) -> None:
    """Writes a data set's records.

    Args:
        sources: (training, evaluation); one and the same where there is one split.
        family: of the sources.
        out: a folder that does not exist yet, or is empty.
        encoding: of the pictures.
        origin: where the data come from, for people.
        progress: called with a split's name, images written and its length.

    Raises:
        UserError: such data have no layout in records, `out` is taken, or anything is wrong with the source;
            nothing is left of `out` then.
    """
    layout = family.layout
    if layout is None:
        raise UserError(f"data for {family.name} have no layout in records: use them as they are")
    if out.exists() and (not out.is_dir() or not all(is_system_name(path.name) for path in out.iterdir())):
        raise UserError(f"{out}: there is something already: remove it, or choose another --out")
    train, val = sources
    out = out.resolve()
    folder = out.with_name(f".{out.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)  # what a killed conversion left
    folder.mkdir(parents=True)
    try:
        splits = {"train": _write_split(train, layout, "train", folder, encoding, progress)}
        if val is not train:
            splits["val"] = _write_split(val, layout, "val", folder, encoding, progress)
        Contents(family.name, tuple(train.classes), origin, splits).write(folder)
        if out.is_dir():
            shutil.rmtree(out)  # an operating system's own files at most
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def images_per_second(source: S, family: Family[S], most: int = 256) -> float:
    """How fast a source is read, as for training, one image after the other, in this thread.

    Args:
        source: a split.
        family: of the source.
        most: so many images are read, evenly spread; the first of them twice, so that files are open.

    Returns:
        Images a second; NaN where there are none.
    """
    picked = spread(len(source), most)
    if not picked:
        return float("nan")
    family.read(source, picked[0])
    start = time.perf_counter()
    for index in picked:
        family.read(source, index)
    return len(picked) / (time.perf_counter() - start)


def _write_split(
    source: Source,
    layout: RecordLayout,
    name: str,
    folder: Path,
    encoding: Encoding,
    progress: Callable[[str, int, int], None],
) -> Split:
    """Writes all images of a split, in order, and returns what `records.json` says of it."""
    writer = SplitWriter(folder, name)
    rows = []
    length = len(source)
    for arrays, row in _ahead(lambda index: layout.record(source, index, encoding), length):
        writer.add(arrays)
        rows.append(row)
        progress(name, len(rows), length)
    table = {"names": pack_json([row["names"] for row in rows]), **layout.table(rows)}
    ids = getattr(source, "category_ids", None)
    return writer.end(table, None if ids is None else tuple(map(int, ids)))


def _ahead(make: Callable[[int], T], length: int) -> Iterator[T]:
    """make(0), make(1), ... in order, made by as many threads as there are cores, a few ahead."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        indices = iter(range(length))
        running = deque(pool.submit(make, index) for index in islice(indices, 2 * threads))
        while running:
            done = running.popleft().result()
            running.extend(pool.submit(make, index) for index in islice(indices, 1))
            yield done
