"""Files in the safetensors format: a length, a JSON head of names, dtypes, shapes and offsets, numbers."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_LONGEST_HEAD = 100_000_000  # bytes: the format's own limit

_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors by name, mapped from the file, read-only.

    Args:
        path: the file.

    Raises:
        ValueError: it is damaged; the message names the tensor.
        OSError: it cannot be read.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if length < 8 or size > min(length - 8, _LONGEST_HEAD):
            if file.read(1) == b"{":
                raise ValueError(
                    f"a damaged file: its head alone has {size} bytes, the file {length}; download it again"
                )
            raise ValueError("a damaged file: it begins neither as .safetensors nor as torch.save's files do")
        try:
            head = json.loads(file.read(size))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a damaged file: its head is no JSON ({error})") from error
    if not isinstance(head, dict):
        raise ValueError("a damaged file: its head is no JSON object")
    tensors = {name: entry for name, entry in head.items() if name != "__metadata__"}
    content = np.memmap(path, np.uint8, "r", 8 + size) if length > 8 + size else np.zeros(0, np.uint8)
    return {name: _tensor(name, entry, content) for name, entry in tensors.items()}


def _tensor(name: str, entry: Any, content: np.ndarray) -> np.ndarray:
    """One tensor from the file's bytes; raises a ValueError where its entry in the head does not fit them."""
    entry = entry if isinstance(entry, dict) else {}
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or len(shape) > 32:
        raise ValueError(f"{name}: a damaged head: {str(entry)[:200]}")
    if entry.get("dtype") not in _DTYPES:
        raise ValueError(f"{name}: the dtype {str(entry.get('dtype'))[:20]}; known: {', '.join(_DTYPES)}")
    dtype = np.dtype(_DTYPES[entry["dtype"]]).newbyteorder("<")
    begin, end = offsets
    if not begin <= end <= len(content) or end - begin != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{name}: {entry['dtype']} {tuple(shape)} in bytes {begin} to {end} of {len(content)}"
        )
    return np.frombuffer(content[begin:end].tobytes(), dtype).reshape(shape)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48 for value in values
    )
