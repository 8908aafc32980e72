"""Systems of the vision literature as pure Flax modules, with one trainer for all of them.

    from vision_jax import fit
    fit(experiment(...), "runs/mine")

Names are imported when they are first used, so that `import vision_jax` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision_jax.training.experiment import Experiment, TrainConfig
    from vision_jax.training.loop import fit

__all__ = ["Experiment", "TrainConfig", "fit"]

_HOME = {
    "Experiment": "vision_jax.training.experiment",
    "TrainConfig": "vision_jax.training.experiment",
    "fit": "vision_jax.training.loop",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'vision_jax' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
