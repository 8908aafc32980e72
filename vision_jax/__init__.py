"""Systems of the vision literature as pure Flax modules, with one trainer for all of them.

    from vision_jax import fit
    from vision_jax.recipes import mask_rcnn
    fit(mask_rcnn(data="coco:FOLDER"), "runs/mine")

Names are imported when they are first used, so that `import vision_jax` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
    from vision_jax.training.loop import fit

__all__ = ["Experiment", "Gradient", "TrainConfig", "fit"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'vision_jax' has no attribute '{name}'")
    module = "loop" if name == "fit" else "experiment"
    return getattr(importlib.import_module(f"vision_jax.training.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
