"""Where an experiment comes from: a recipe of the package, or a Python file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CLAIM = "claim.py"  # the file of a claim's folder


@dataclass(frozen=True)
class Origin:
    """Where the `experiment` function of a command or a run comes from.

    Attributes:
        word: what names it on a command line.
        recipe: the import path of a recipe's module, `vision_jax.recipes.mask_rcnn`; None for a file.
        file: the Python file; None for a recipe.
    """

    word: str
    recipe: str | None = None
    file: Path | None = None

    @property
    def name(self) -> str:
        """For the folders of its runs: the recipe's, the claim's folder's or the file's."""
        if self.file is None:
            return self.word
        return self.file.resolve().parent.name if self.file.name == CLAIM else self.file.stem
