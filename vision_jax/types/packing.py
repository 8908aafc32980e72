"""Named arrays as one record of bytes, for files in array_record.

Four bytes, little-endian, the length of a json header; the header, {name: [dtype, shape]}; the arrays'
bytes, one after the other, C order. Nothing in them is code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A record of named arrays, none of them of Python objects."""
    header = json.dumps({name: [array.dtype.str, array.shape] for name, array in arrays.items()}).encode()
    parts = [len(header).to_bytes(4, "little"), header, *(array.tobytes() for array in arrays.values())]
    return b"".join(parts)


def unpack(record: bytes) -> dict[str, np.ndarray]:
    """The arrays of a record, read-only.

    Raises:
        ValueError: it is none.
    """
    start = 4 + int.from_bytes(record[:4], "little")
    arrays = {}
    for name, (kind, shape) in json.loads(record[4:start]).items():
        dtype, count = np.dtype(kind), int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(record, dtype, count, start).reshape(shape)
        start += count * dtype.itemsize
    return arrays
