"""Files of weights, put together byte by byte as torch and safetensors lay them out."""

import json
import struct
import zipfile

import numpy as np
import pytest

WEIGHTS = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "conv.bias": np.array([1, 2, 3], np.float32),
    "steps": np.array(7, np.int64),
}
_CLASSES = {"float32": "FloatStorage", "int64": "LongStorage"}


def name(module, attribute):
    return b"c" + f"{module}\n{attribute}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key, array, legacy):
    view = b"N" if legacy else b""
    kind = name("torch", _CLASSES[array.dtype.name])
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(array.size) + view + b"tQ"


def tensor(key, array, legacy=False):
    strides = [stride // array.itemsize for stride in array.strides]
    hooks = name("collections", "OrderedDict") + b")R"
    whole = storage(key, array, legacy) + number(0) + numbers(array.shape) + numbers(strides)
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + whole + b"\x89" + hooks + b"tR"


def state_dict(weights, legacy=False):
    items = (text(key) + tensor(str(i), array, legacy) for i, (key, array) in enumerate(weights.items()))
    return b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + b"".join(items) + b"u."


def write_archive(path, pickle, arrays=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        for i, array in enumerate(arrays):
            archive.writestr(f"archive/data/{i}", array.tobytes())


def write_legacy(path, weights):
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    version = b"\x80\x02M\xe9\x03."
    system = b"\x80\x02}" + text("little_endian") + b"\x88s."
    keys = b"\x80\x02](" + b"".join(text(str(i)) for i in range(len(weights))) + b"e."
    numbers = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in weights.values())
    path.write_bytes(magic + version + system + state_dict(weights, legacy=True) + keys + numbers)


def write_safetensors(path, weights):
    head, offset = {"__metadata__": {"format": "pt"}}, 0
    for key, array in weights.items():
        offsets = [offset, offset + array.nbytes]
        kind = {"float32": "F32", "int64": "I64"}[array.dtype.name]
        head[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        offset += array.nbytes
    text = json.dumps(head).encode()
    content = b"".join(array.tobytes() for array in weights.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


@pytest.fixture(params=["archive", "legacy", "safetensors"])
def weights_file(request, tmp_path):
    """A file of WEIGHTS, of each kind in turn."""
    path = tmp_path / f"weights.{request.param}"
    if request.param == "archive":
        write_archive(path, state_dict(WEIGHTS), WEIGHTS.values())
    elif request.param == "legacy":
        write_legacy(path, WEIGHTS)
    else:
        write_safetensors(path, WEIGHTS)
    return path
