"""Opens a folder that `vision-jax convert-data` wrote, for the task family that it was written for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vision_jax.data.files.splits import report_single
from vision_jax.data.storage.files import CONTENTS, Contents, SplitReader
from vision_jax.data.storage.layout import RecordLayout
from vision_jax.types import UserError


def open_records(root: Path, layout: RecordLayout, classes: tuple[str, ...] | None = None) -> tuple[Any, Any]:
    """Opens converted data.

    Args:
        root: the folder.
        layout: of the task family.
        classes: the classes of a run; None takes the data's own.

    Returns:
        (training, evaluation), sources of that family.

    Raises:
        UserError: the folder holds another task, a class that the run has not, or files that are missing,
            damaged, altered or of another version.
    """
    contents = Contents.read(root)
    if contents.task not in layout.tasks:
        task = layout.tasks[0]
        raise UserError(
            f"{root / CONTENTS}: holds records for {contents.task}, not {task}: convert the data again with "
            f"--task {task}"
        )
    sources = {
        name: layout.open(SplitReader(root, split), contents.classes, classes or contents.classes)
        for name, split in contents.splits.items()
    }
    if "val" not in sources:
        remedy = "convert the data again with ?holdout=0.2 after the folder to keep a fifth back"
        report_single(str(root), "train", len(sources["train"]), remedy)
    return sources["train"], sources.get("val", sources["train"])
