"""What a format of data states of itself: the tasks that it serves, and the options that each takes.

The room of a format (`vision_jax.data.formats`) states `FORMATS`, by the kind that a data text begins with;
`vision_jax.data.open` imports a room when one of its kinds is asked for, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

# The training and the evaluation split, one and the same object where there is one split only.
Splits = tuple[Any, Any]

# Which splits to train and to evaluate on, where their names do not tell.
SPLIT_NAMES: Mapping[str, type] = {"train": str, "val": str}
# With one split only, `holdout` is the fraction of images kept back for evaluation.
SPLIT_OPTIONS: Mapping[str, type] = {**SPLIT_NAMES, "holdout": float}


@dataclass(frozen=True)
class Opener:
    """How a format is opened for one task.

    Attributes:
        open: (location, **options) -> splits; `classes` is given, too, where a run has them. Of a format
            without a location, (**options) -> splits.
        options: the type of each option's value by name, in the order in which messages list them: str, int
            (0 or more) or float (a fraction, 0 or more, less than 1).
    """

    open: Callable[..., Splits]
    options: Mapping[str, type] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A format of data.

    Attributes:
        tasks: how it is opened, by the name of the task family (`vision_jax.data.family`), usual one first.
        stored: how it is opened for any family whose records have a layout: (location, layout, classes=...).
        has_location: whether data lie in a folder; False of what is rendered or comes with a package.
        file_suffix: of a single file that may be given in place of a folder; None where none may.
    """

    tasks: Mapping[str, Opener]
    stored: Opener | None = None
    has_location: bool = True
    file_suffix: str | None = None
