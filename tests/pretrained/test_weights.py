"""Files of weights: what is in them comes out, what is not weights is refused, damage is a message."""

import os
import pickle
import re
import resource
import zipfile

import numpy as np
import pytest

from tests.pretrained.conftest import WEIGHTS, name, number, numbers, text, write_archive
from vision_jax.pretrained.weights import read_weights
from vision_jax.types import UserError


def test_what_was_saved_comes_out(weights_file):
    found = read_weights(weights_file)
    assert list(found) == list(WEIGHTS)
    for key, expected in WEIGHTS.items():
        np.testing.assert_array_equal(found[key], expected)
        assert found[key].dtype == expected.dtype


class Creates:
    """When it is unpickled, a file appears."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.open, (str(self.path), os.O_CREAT)


@pytest.mark.parametrize("protocol", range(5))
def test_a_pickle_that_would_do_something_is_refused_by_name(tmp_path, protocol):
    trap, path = tmp_path / "appears", tmp_path / "evil.pth"
    program = pickle.dumps({"weight": Creates(trap)}, protocol)
    pickle.loads(program)
    assert trap.exists()  # it would
    trap.unlink()
    write_archive(path, program)
    with pytest.raises(UserError, match=r"asks for (posix|nt|os)\.open"):
        read_weights(path)
    path.write_bytes(program if program[:1] == b"\x80" else b"\x80\x02" + program)
    with pytest.raises(UserError, match=r"asks for (posix|nt|os)\.open"):
        read_weights(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("program", "what"),
    [
        (name("builtins", "eval") + b"(" + text("1") + b"tR.", "builtins.eval"),
        (name("torch", "FloatStorage") + b")R.", "a call of"),
        (name("torch", "float32") + b")R.", "a call of"),
        (name("torch.nn.modules.linear", "Linear") + b")\x81.", "torch.nn.modules.linear.Linear"),
        (name("collections", "OrderedDict") + b")\x81.", "NEWOBJ"),
        (b"}))s.", "a key that is a tuple"),
        (text("os") + text("system") + b"\x93.", "os.system"),
    ],
)
def test_nothing_but_what_weights_need(tmp_path, program, what):
    path = tmp_path / "weights.pth"
    write_archive(path, b"\x80\x04" + program)
    with pytest.raises(UserError, match=re.escape(what)):
        read_weights(path)


def _view(offset, shape, strides, count=6):
    kind = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + number(count)
    whole = kind + b"tQ" + number(offset) + numbers(shape) + numbers(strides) + b"\x89N"
    return b"\x80\x02}" + text("w") + name("torch._utils", "_rebuild_tensor_v2") + b"(" + whole + b"tRs."


def test_strided_views_of_a_storage_are_read(tmp_path):
    path, values = tmp_path / "views.pth", np.arange(6, dtype=np.float32)
    for offset, shape, strides, expected in [
        (0, (3, 2), (1, 3), values.reshape(2, 3).T),
        (2, (2,), (3,), values[[2, 5]]),
        (1, (3, 4), (1, 0), np.repeat(values[1:4, None], 4, 1)),
        (6, (0, 3), (3, 1), np.zeros((0, 3))),
        (4, (), (), values[4]),
    ]:
        write_archive(path, _view(offset, shape, strides), [values])
        np.testing.assert_array_equal(read_weights(path)["w"], expected)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ((5, (2,), (1,)), "outside of its storage"),
        ((0, (2, 4), (4, 1)), "outside of its storage"),
        ((-1, (2,), (1,)), "shape"),
        ((0, (2,), (-1,)), "shape"),
        ((0, (2, 2), (1,)), "shape"),
        ((0, (2**30, 2**10), (0, 0)), "repeats 6 numbers"),
        ((0, (3,), (1,), 7), "24 bytes, not 7 numbers"),
    ],
)
def test_a_view_never_reaches_outside(tmp_path, view, message):
    path = tmp_path / "views.pth"
    write_archive(path, _view(*view), [np.arange(6, dtype=np.float32)])
    with pytest.raises(UserError, match=message):
        read_weights(path)


def test_other_files_say_what_they_are_not(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match="No such file"):
        read_weights(path)
    for content, message in [
        (b"", "an empty file"),
        (b"\x80\x02K\x01.", "not of torch.save"),
        (b"<html>not found</html>", "it is a web page"),
        (np.random.default_rng(0).bytes(500), "begins neither as .safetensors nor as torch.save's"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_weights(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.txt", "hello")
    with pytest.raises(UserError, match=r"without data\.pkl"):
        read_weights(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb, if it were longer
        archive.writestr("archive/data.pkl", b"\x80\x02}." + b"\0" * 10_000)
    with pytest.raises(UserError, match=r"the compressed entry archive/data\.pkl"):
        read_weights(path)


@pytest.mark.slow
def test_ten_thousand_damaged_files(weights_file):
    """3,400 of each kind: weights or a message, soon and in little memory."""
    whole = weights_file.read_bytes()
    random = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    messages = []
    for _ in range(3400):
        damaged = bytearray(whole)
        for position in random.integers(len(whole), size=random.integers(1, 4)):
            damaged[position] = random.integers(256)
        if random.random() < 0.2:
            del damaged[random.integers(len(whole)) :]
        if random.random() < 0.2:
            start, length = random.integers(len(damaged) + 1), random.integers(1, 20)
            damaged[start:start] = random.bytes(length)
        weights_file.write_bytes(damaged)
        try:
            read_weights(weights_file)
        except UserError as error:
            messages.append(str(error))
    assert 1000 < len(messages) < 3400
    assert all(str(weights_file) in message and len(message) < 1000 for message in messages)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
