"""Systems of the vision literature as pure Flax modules, with one trainer for all of them.

    from vision_jax import fit
    fit(experiment(...), "runs/mine")

Names are imported when they are first used, so that `import vision_jax` costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
    from vision_jax.types import Report

__all__ = ["Experiment", "Gradient", "TrainConfig", "fit"]


def fit(
    experiment: Experiment,
    run_folder: Path | str,
    *,
    resume: bool = False,
    overfit: int = 0,
    profile: bool = False,
    devices: int | None = None,
    file: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Report:
    """Trains and judges an experiment, as `vision-jax train` does.

    Args:
        experiment: what to train.
        run_folder: a new folder, or with `resume` one that a run left.
        resume: go on from the newest sound checkpoint.
        overfit: train and judge on the first so many training images only; 0 is the whole data.
        profile: trace some steps into the run folder.
        devices: how many local devices to use; all of them if None.
        file: the experiment's file, to be copied into the run folder. With it and `arguments`, the run can be
            evaluated, resumed and used for predictions from the command line.
        arguments: what the file's `experiment` was called with, JSON-able.

    Returns:
        The report of the evaluation at the end; `report.metrics` are its figures by name.

    Raises:
        UserError: anything a person can mend (folder, disk, options, data, a non-finite loss).
    """
    from vision_jax.training.loop import fit as train
    from vision_jax.visualization.curves import plot_curves

    return train(
        experiment,
        run_folder,
        resume=resume,
        overfit=overfit,
        profile=profile,
        devices=devices,
        file=file,
        arguments=arguments,
        draw_curves=plot_curves,
    )


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'vision_jax' has no attribute '{name}'")
    return getattr(importlib.import_module("vision_jax.training.experiment"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
