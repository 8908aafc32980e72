"""Weights from a file, whatever wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vision_jax.pretrained.pickles import Refused
from vision_jax.pretrained.safetensors import read_safetensors
from vision_jax.pretrained.torch_files import Tensor, is_torch_file, read_torch
from vision_jax.pretrained.wrappers import network_of, plain_names
from vision_jax.types import UserError, file_kind

_FORMATS = "weights are read from .pth and .safetensors files of a state_dict"


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file by name.

    Nothing in the file is run: only tensors, containers, numbers and text are ever built from it. Of a
    checkpoint, which holds more than a network, its one dict of tensors is taken; what wrappers such as
    DataParallel and `torch.compile` add to names is taken off (`wrappers.plain_names`).

    Args:
        path: the file; its first bytes say what it is, not its name.

    Returns:
        Read-only arrays, with bfloat16 and float8 as ml_dtypes has them.

    Raises:
        UserError: there is no such file, it is damaged, it is something else (the message says what), or it
            holds what is not tensors, containers, numbers and text; the message says what.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise ValueError("an empty file")
        if not is_torch_file(path):
            return plain_names(read_safetensors(path))
        found = network_of(read_torch(path), lambda value: isinstance(value, Tensor))
        return {name: tensor.array() for name, tensor in plain_names(found).items()}
    except Refused as error:
        raise UserError(
            f"{path} asks for {_short(error)}: only tensors, containers, numbers and text are read from a "
            "file of weights, and nothing in it is run. If you trust it, load it with torch and save its "
            "state_dict() alone"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} holds no weights that can be read: {_reason(path, error)}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _reason(path: Path, error: ValueError) -> str:
    """What the file is, where that is known, and what to do; else what is wrong with it."""
    kind = file_kind(path)
    if kind is None:
        return _short(error)
    said = f"it is {kind.what}; {kind.remedy or _FORMATS}"
    return f"{said} ({_short(error)})" if is_torch_file(path) else said


def _short(error: Exception) -> str:
    """A message without the end of a damaged file that it may quote."""
    text = str(error)
    return text if len(text) <= 300 else f"{text[:300]}..."
