"""Weights from a file, whatever wrote it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.pretrained.pickles import Refused
from vision_jax.pretrained.safetensors import read_safetensors
from vision_jax.pretrained.torch_files import Tensor, is_torch_file, read_torch
from vision_jax.types import UserError

_PARALLEL = "module."  # before every name of a network that was trained in torch's DataParallel


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file by name.

    Nothing in the file is run: only tensors, containers, numbers and text are ever built from it. Of a
    checkpoint, which holds more than a network, its one dict of tensors is taken; the `module.` that
    DataParallel puts before every name is taken off.

    Args:
        path: the file; its first bytes say what it is, not its name.

    Returns:
        Read-only arrays, with bfloat16 and float8 as ml_dtypes has them.

    Raises:
        UserError: there is no such file, it is damaged, or it holds what is not tensors, containers, numbers
            and text; the message says what.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise ValueError("an empty file")
        if not is_torch_file(path):
            return read_safetensors(path)
        found = _tensors(read_torch(path))
        return {name: tensor.array() for name, tensor in found.items()}
    except Refused as error:
        raise UserError(
            f"{path} asks for {_short(error)}: only tensors, containers, numbers and text are read from a "
            "file of weights, and nothing in it is run. If you trust it, load it with torch and save its "
            "state_dict() alone"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} holds no weights that can be read: {_short(error)}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _short(error: Exception) -> str:
    """A message without the end of a damaged file that it may quote."""
    text = str(error)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _tensors(whole: Any) -> dict[str, Tensor]:
    """The one dict of tensors in what a file holds, or in one of its values."""
    found = _of_names(whole)
    if not found and isinstance(whole, Mapping):
        within = {key: _of_names(value) for key, value in whole.items()}
        within = {key: tensors for key, tensors in within.items() if tensors}
        if len(within) > 1:
            raise ValueError(f"it has tensors in {', '.join(map(str, within))}: save one of them alone")
        found = next(iter(within.values()), {})
    if not found:
        raise ValueError("there is no dict of tensors in it")
    if all(name.startswith(_PARALLEL) for name in found):
        found = {name.removeprefix(_PARALLEL): tensor for name, tensor in found.items()}
    return found


def _of_names(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    return {name: each for name, each in value.items() if isinstance(name, str) and isinstance(each, Tensor)}
