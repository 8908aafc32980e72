"""`vision-jax convert`: weights from torchvision as a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from vision_jax.types import UserError, is_system_name


@dataclass(frozen=True)
class ConvertWeightsOptions:
    """Writes weights from torchvision as a checkpoint, which `--init` and `predict --weights` take.

    Attributes:
        weights: a .pth or .safetensors file of its state_dict. Nothing in it is run.
        model: the architecture; `vision-jax models` lists them.
        out: the new folder.
    """

    weights: Annotated[Path, tyro.conf.Positional]
    model: str
    out: Path


def run(words: Sequence[str]) -> None:
    """Converts.

    Args:
        words: after `vision-jax convert`.

    Raises:
        UserError: a mistake in the options, the file or the folder.
    """
    options = tyro.cli(ConvertWeightsOptions, prog="vision-jax convert", args=list(words))
    if options.out.exists() and (not options.out.is_dir() or _has_content(options.out)):
        raise UserError(f"--out {options.out}: there is something; give a new folder")
    from vision_jax.pretrained.torchvision import from_torchvision
    from vision_jax.training.checkpoints import TrainingProgress
    from vision_jax.training.run_folder import RunFolder

    network = from_torchvision(options.model, options.weights)
    RunFolder(options.out).checkpoints.save(network.variables, {"step": np.int32(0)}, TrainingProgress())
    print(f"{options.out}: {options.model} of {network.model.num_classes} classes")
    print(f"next: vision-jax train image_classifier --data folder:DIR --init {options.out}")


def _has_content(folder: Path) -> bool:
    return any(not is_system_name(path.name) for path in folder.iterdir())
