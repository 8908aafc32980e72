"""What files are by their beginnings, and whose files do not count."""

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from vision_jax.types import file_kind, is_system_name

LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 46830571\n"
)


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "._record.json", "Thumbs.db", "thumbs.db", "desktop.ini", "Desktop.ini"),
        *(".nfs00000012", "__MACOSX", ".ipynb_checkpoints", "~$notes.docx", ".fuse_hidden0001", "@eaDir"),
    ],
)
def test_names_that_systems_write_are_system_names(name):
    assert is_system_name(name)


@pytest.mark.parametrize(
    "name",
    ["record.json", "manifest.ocdbt", "_METADATA", "__init__", ".git-lfs.bin", "a._b", "DS_Store", "nfs"],
)
def test_names_that_people_give_are_not_system_names(name):
    assert not is_system_name(name)


def tar():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("resnet18.pth"))
    return content.getvalue()


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


def image(kind):
    content = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(content, kind)
    return content.getvalue()


def arrays():
    content = io.BytesIO()
    np.savez(content, a=np.zeros(3))
    return content.getvalue()


KINDS = [
    (LFS, f"a git-lfs pointer of {len(LFS)} bytes", "git lfs pull"),
    (b"/annex/objects/SHA256E-s46830571--4d7a2146.pth\n", "a git-annex pointer", "git annex get"),
    (b"<!DOCTYPE html>\n<html><title>Sign in</title>", "a web page (HTML)", "ask for a login"),
    (b"\xef\xbb\xbf \n<HTML><body>404", "a web page (HTML)", "download it again"),
    ("<html>é".encode("utf-16"), "a web page (HTML)", "download it again"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a text in XML", "an error"),
    (b"", "an empty file", "download or copy it again"),
    (bytes(5000), "zeros alone in its first 1024 bytes", "not copied whole"),
    (b"Not Found", "a text that begins with 'Not Found'", "look into it"),
    ("Datei nicht gefunden, bedaure: ü".encode() * 60, "a text that begins with 'Datei", "look into it"),
    (b'{"message": "Bad credentials"}', "a text in JSON", "Bad credentials"),
    (gzip.compress(b"weights", mtime=0), "packed with gzip", "unpack it"),
    (tar(), "a tar archive", "unpack it"),
    (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "AppleDouble", "without the `._`"),
    (image("png"), "a PNG image", None),
    (image("jpeg"), "a JPEG image", None),
    (arrays(), "an archive of numpy arrays (.npz)", None),
    (zipped("readme.txt", "resnet18.pth"), "a zip archive of readme.txt, resnet18.pth", "unpack it"),
    (zipped("config.json", "model.weights.h5"), "a Keras model", None),
    (
        zipped("archive/data.pkl", "archive/data/0")[:60],
        "a zip archive whose end is missing",
        "download it again",
    ),
    (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5, as Keras writes it", None),
    (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "an ONNX model", None),
    (b"\x08\x01\x12\xd3\x08\n\x00", "a TensorFlow SavedModel", None),
    (b"\n\x1f\n\x05input\x12\x0bPlaceholder*\x0b\n\x05dtype\x12\x020\x01", "a TensorFlow graph", None),
    (b"\x1c\0\0\0TFL3\x14\0 \0", "a TensorFlow Lite model", None),
]


@pytest.mark.parametrize(("content", "what", "remedy"), KINDS, ids=range(len(KINDS)))
def test_a_file_that_is_no_checkpoint_is_told_by_its_kind(tmp_path, content, what, remedy):
    (tmp_path / "weights.pth").write_bytes(content)
    kind = file_kind(tmp_path / "weights.pth")
    said = f"{kind.what}: {kind.remedy}"
    assert what in kind.what
    assert (remedy in said) if remedy else kind.remedy is None


def test_kinds_by_name_and_what_is_of_none(tmp_path):
    noise = np.random.default_rng(0).bytes(2000)
    for name, what in [
        ("net.onnx", "an ONNX"),
        ("m.pb", "a TensorFlow graph"),
        ("m.index", "part of a Tensor"),
    ]:
        (tmp_path / name).write_bytes(noise)
        assert file_kind(tmp_path / name).what.startswith(what)
    (tmp_path / "weights.pth").write_bytes(noise)
    assert file_kind(tmp_path / "weights.pth") is None
    (tmp_path / "weights.pth").write_bytes(zipped("archive/data.pkl"))
    assert file_kind(tmp_path / "weights.pth") is None
    assert file_kind(tmp_path / "nowhere.pth") is None
    assert file_kind(tmp_path) is None
