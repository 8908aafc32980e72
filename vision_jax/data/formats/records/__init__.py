"""Data sets as array_record shards, which `vision-jax convert-data` writes.

    records:DIR      the task that they were written for; what is for instances also serves detection

No options.
"""

from functools import partial
from pathlib import Path

from vision_jax.data.format import Format, Opener, Splits


def _open(root: Path, task: str, classes: tuple[str, ...] | None = None) -> Splits:
    # array_record is not built for every system: it is imported when records are opened.
    from vision_jax.data.formats.records.sources import open_records

    return open_records(root, task, classes)


FORMATS = {
    "records": Format(
        {
            task: Opener(partial(_open, task=task))
            for task in ("detection", "instances", "segmentation", "classification")
        }
    )
}
