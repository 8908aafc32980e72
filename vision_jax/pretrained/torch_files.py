"""Files that `torch.save` wrote, of both kinds, read without torch.

Since torch 1.6 a file is a zip archive: a pickle, and each storage (a flat array, which tensors are views of)
in an entry of its own. Before, it was five pickles one after the other and the storages behind them.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vision_jax.pretrained.pickles import Call, Refused, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
# A view may repeat its storage's numbers (`expand`); this many it may make of few.
_MOST_REPEATED = 2**20

_DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
    "int64": np.int64,
    "int32": np.int32,
    "int16": np.int16,
    "int8": np.int8,
    "uint64": np.uint64,
    "uint32": np.uint32,
    "uint16": np.uint16,
    "uint8": np.uint8,
    "bool": np.bool_,
    "complex64": np.complex64,
    "complex128": np.complex128,
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}


@dataclass(frozen=True)
class _DType:
    """A dtype, as a pickle names it or a storage's class."""

    numpy: np.dtype


@dataclass
class _Storage:
    """A flat array, whose numbers are read when the pickle has been."""

    key: str
    dtype: np.dtype
    count: int
    content: bytes | None = None


@dataclass(frozen=True)
class Tensor:
    """A view of a storage.

    Attributes:
        shape: of the tensor.
        dtype: numpy's.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    _storage: _Storage
    _offset: int
    _strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Its numbers, read-only, without a copy."""
        content = self._storage.content
        if content is None:
            raise ValueError(f"storage {self._storage.key!r} is missing")
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        size = self.dtype.itemsize
        strides = [stride * size for stride in self._strides]
        return np.ndarray(self.shape, self.dtype, content, self._offset * size, strides)


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as one of torch's does: as a zip archive, or as a pickle."""
    with path.open("rb") as file:
        begin = file.read(4)
    return begin == b"PK\x03\x04" or begin[:1] == b"\x80"


def read_torch(path: Path) -> Any:
    """What `torch.save` was given: numbers, text, containers, and a `Tensor` for each tensor.

    Args:
        path: a file of either kind.

    Raises:
        Refused: it holds more than that; the message names what.
        ValueError: it is damaged, or no such file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise ValueError("an empty file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content[:4] != b"PK\x03\x04":
                return _read_legacy(content)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise ValueError(f"a damaged archive ({error})") from error


def _read_archive(archive: zipfile.ZipFile) -> Any:
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("a zip archive without data.pkl: not a file of torch.save")
    folder = pickles[0].removesuffix("data.pkl")

    def read(name: str) -> bytes:
        if name not in entries:
            raise ValueError(f"the archive lacks {name}")
        if (
            entries[name].compress_type != zipfile.ZIP_STORED
        ):  # torch stores; a small file could be made endless
            raise Refused(f"the compressed entry {name}")
        return archive.read(name)

    order = "<"
    if f"{folder}byteorder" in entries:
        order = ">" if read(f"{folder}byteorder") == b"big" else "<"
    storages: dict[str, _Storage] = {}
    whole = read_pickle(BytesIO(read(pickles[0])), _NAMES, lambda id: _storage(id, storages, order))
    for key, storage in storages.items():
        content = read(f"{folder}data/{key}")
        if len(content) != storage.count * storage.dtype.itemsize:
            raise ValueError(
                f"storage {key!r} has {len(content)} bytes, not {storage.count} numbers of {storage.dtype}"
            )
        storage.content = content
    return whole


def _read_legacy(file: mmap.mmap) -> Any:
    if read_pickle(file, {}) != _LEGACY_MAGIC:
        raise ValueError("a pickle, but not of torch.save")
    if read_pickle(file, {}) != _LEGACY_VERSION:
        raise ValueError("a version of torch's format that nobody has seen")
    system = read_pickle(file, {})
    order = "<" if not isinstance(system, dict) or system.get("little_endian", True) else ">"
    storages: dict[str, _Storage] = {}
    whole = read_pickle(file, _NAMES, lambda id: _storage(id, storages, order))
    keys = read_pickle(file, {})
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str) or key not in storages:
            raise ValueError("a storage that no tensor has")
        storage = storages[key]
        length = storage.count * storage.dtype.itemsize
        head, content = file.read(8), file.read(length)
        if len(head) < 8 or len(content) < length or int.from_bytes(head, "little") != storage.count:
            raise ValueError(f"storage {key!r} is cut off or damaged: download it again")
        storage.content = content
    return whole


def _storage(id: Any, storages: dict[str, _Storage], order: str) -> _Storage:
    """The storage of a persistent id: ("storage", class, key, device, count, and in old files a view)."""
    if not isinstance(id, tuple) or len(id) < 5 or id[0] != "storage" or not isinstance(id[1], _DType):
        raise ValueError("a damaged pickle (a storage that is none)")
    if len(id) > 5 and id[5] is not None:
        raise Refused("a storage that is part of another, as torch had them before version 0.4")
    _, dtype, key, _, count = id[:5]
    if not isinstance(key, str) or not _is_size(count):
        raise ValueError("a damaged pickle (a storage without a key or a size)")
    if key not in storages:
        storages[key] = _Storage(key, dtype.numpy.newbyteorder(order), count)
    return storages[key]


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any, dtype: np.dtype | None = None
) -> Tensor:
    """A view, looked at before anything is read: none may reach outside its storage."""
    if (
        not isinstance(storage, _Storage)
        or not isinstance(shape, Sequence)
        or not isinstance(strides, Sequence)
    ):
        raise ValueError("a damaged pickle (a tensor of what is no storage)")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 32 or not all(map(_is_size, numbers)):
        raise ValueError("a damaged pickle (a tensor's shape)")
    dtype = (dtype or storage.dtype).newbyteorder(storage.dtype.byteorder)
    count = storage.count * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= count:
        raise ValueError(f"a tensor of {tuple(shape)} that reaches outside of its storage of {count} numbers")
    if prod(shape) > max(count, _MOST_REPEATED):
        raise ValueError(f"a tensor of {tuple(shape)} that repeats {count} numbers")
    return Tensor(tuple(shape), dtype, storage, offset, tuple(strides))


def _tensor_of_bytes(
    storage: Any, offset: Any, shape: Any, strides: Any, gradient: Any, hooks: Any, dtype: Any, *rest: Any
) -> Tensor:
    if not isinstance(dtype, _DType):
        raise ValueError("a damaged pickle (a tensor's dtype)")
    return _tensor(storage, offset, shape, strides, dtype=dtype.numpy)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _parameter(data: Any, *rest: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a damaged pickle (a parameter that is no tensor)")
    return data


def _ordered(items: Any = ()) -> dict[Any, Any]:
    pairs = list(items)
    if not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | int) for pair in pairs
    ):
        raise ValueError("a damaged pickle (an ordered dict)")
    return {pair[0]: pair[1] for pair in pairs}


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    return tuple(sizes) if isinstance(sizes, list | tuple) else ()


def _device(kind: Any = "cpu", *index: Any) -> str:
    return str(kind) if isinstance(kind, str) else "cpu"


_NAMES: Mapping[str, Any] = {
    "collections.OrderedDict": Call(_ordered),
    "torch.Size": Call(_size),
    "torch.device": Call(_device),
    "torch._utils._rebuild_tensor_v2": Call(_tensor),
    "torch._utils._rebuild_tensor_v3": Call(_tensor_of_bytes),
    "torch._utils._rebuild_parameter": Call(_parameter),
    "torch._utils._rebuild_parameter_with_state": Call(_parameter),
    **{f"torch.{name}": _DType(np.dtype(dtype)) for name, dtype in _DTYPES.items()},
    **{f"torch.{name}": _DType(np.dtype(_DTYPES[dtype])) for name, dtype in _STORAGES.items()},
    "torch.storage.UntypedStorage": _DType(np.dtype(np.uint8)),
}
