"""Files as people save them: wrapped networks, whole checkpoints, and what is no file of weights at all."""

import gzip
import io

import numpy as np
import pytest

from tests.pretrained.conftest import (
    WEIGHTS,
    number,
    state_dict,
    text,
    write_archive,
    write_legacy,
    write_safetensors,
)
from vision_jax.pretrained.weights import read_weights
from vision_jax.pretrained.wrappers import network_of, plain_names, without_first_part
from vision_jax.types import UserError


def write(kind, path, weights):
    if kind == "archive":
        write_archive(path, state_dict(weights), weights.values())
    elif kind == "legacy":
        write_legacy(path, weights)
    else:
        write_safetensors(path, weights)


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
@pytest.mark.parametrize(
    "wrapped",
    [
        *("module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "module.module.{}"),
        *("model.{}", "module.model.{}", "model._orig_mod.{}", "state_dict.model.{}"),
        *("_fsdp_wrapped_module.{}", "model._checkpoint_wrapped_module.{}"),
    ],
)
def test_wrappers_leave_no_trace_in_any_format(tmp_path, kind, wrapped):
    path = tmp_path / "weights"
    write(kind, path, {wrapped.format(key): array for key, array in WEIGHTS.items()})
    found = read_weights(path)
    assert list(found) == list(WEIGHTS)
    for key, expected in WEIGHTS.items():
        np.testing.assert_array_equal(found[key], expected)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # torch's example on ImageNet wraps the features of AlexNet and VGG alone
        (["features.module.0.weight", "classifier.1.weight"], ["features.0.weight", "classifier.1.weight"]),
        (["layer1._orig_mod.0.weight", "fc.weight"], ["layer1.0.weight", "fc.weight"]),
        (["n_averaged", "module.fc.weight", "module.fc.bias"], ["fc.weight", "fc.bias"]),
        (["n_averaged", "fc.weight"], ["n_averaged", "fc.weight"]),
        (["model.fc.weight", "criterion.weight"], ["model.fc.weight", "criterion.weight"]),
        (["module.fc.weight", "fc.weight"], ["module.fc.weight", "fc.weight"]),  # two tensors, not one
        (["module", "model"], ["module", "model"]),
        (["modules.fc.weight"], ["modules.fc.weight"]),
        ([], []),
    ],
)
def test_wrappers_are_taken_off_names(names, expected):
    assert list(plain_names(dict.fromkeys(names, 0))) == expected
    assert list(plain_names(dict.fromkeys(expected, 0))) == expected


def test_a_part_that_all_names_share():
    assert without_first_part({"net.a": 1, "net.b.c": 2}) == {"a": 1, "b.c": 2}
    assert without_first_part({"net.a": 1, "b.c": 2}) is None
    assert without_first_part({"net": 1}) is None
    assert without_first_part({}) is None


NETWORK = {"conv.weight": 1.0, "conv.bias": 2.0}


@pytest.mark.parametrize(
    "saved",
    [
        NETWORK,
        {"epoch": 3, "arch": "resnet50", "state_dict": NETWORK, "best_acc1": 76.1},  # torch's example
        {"state_dict": NETWORK, "optimizer": {"state": {0: {"exp_avg": 1.0}, "exp_avg": 2.0}}},  # timm
        {"pytorch-lightning_version": "2.4.0", "state_dict": NETWORK, "optimizer_states": [{"a": 1.0}]},
        {"model": NETWORK, "optimizer": {}, "rng": {"cpu": 5.0}, "iteration": 7},  # Detectron2
        {"model_state": NETWORK, "cfg": {}},
        {"ema": {"decay": 0.99, "shadow": NETWORK}, "step": 3},
        {"checkpoint": {"net": {"state_dict": NETWORK}, "optimizer": {"state": {"x": {"m": 1.0}}}}},
    ],
)
def test_the_network_in_a_checkpoint(saved):
    assert network_of(saved, lambda value: isinstance(value, float)) == NETWORK


def test_two_networks_none_and_a_dict_in_itself():
    def network(saved):
        return network_of(saved, lambda value: isinstance(value, float))

    with pytest.raises(ValueError, match=r"tensors in a\.model, a\.ema: save one of them alone"):
        network({"a": {"model": NETWORK, "ema": NETWORK.copy()}})
    saved = {"epoch": 3}
    saved["again"] = saved
    with pytest.raises(ValueError, match="no dict of tensors"):
        network(saved)
    assert network({"scores": {"top1": 76.1}}) == {"top1": 76.1}


def test_a_checkpoint_has_its_weights_within(tmp_path):
    path = tmp_path / "checkpoint.pth"
    parallel = {f"module.{key}": array for key, array in WEIGHTS.items()}
    inner = state_dict(parallel)[2:-1]
    write_archive(
        path, b"\x80\x02}(" + text("epoch") + number(3) + text("model") + inner + b"u.", WEIGHTS.values()
    )
    assert list(read_weights(path)) == list(WEIGHTS)
    twice = b"\x80\x02}(" + text("model") + inner + text("ema") + inner + b"u."
    write_archive(path, twice, WEIGHTS.values())
    with pytest.raises(UserError, match="tensors in model, ema"):
        read_weights(path)
    write_archive(path, b"\x80\x02}" + text("epoch") + number(3) + b"s.")
    with pytest.raises(UserError, match="no dict of tensors"):
        read_weights(path)


def npz():
    content = io.BytesIO()
    np.savez(content, **WEIGHTS)
    return content.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 46830571\n"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".json"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LFS, ["a git-lfs pointer of", "git lfs pull"]),
        (b"<!DOCTYPE html><html><head><title>Sign in", ["a web page", "login", "download it again"]),
        (b"", ["an empty file", "again"]),
        (b"404: Not Found", ["a text that begins with '404: Not Found'"]),
        (b'{"weight_map": {"conv.weight": "model-00001-of-00002.safetensors"}}', ["a text in JSON"]),
        (gzip.compress(b"x" * 99, mtime=0), ["packed with gzip", "unpack it"]),
        (b"\x08\x07\x12\x07pytorch", ["an ONNX model", ".pth and .safetensors files"]),
        (b"\x89HDF\r\n\x1a\n" + bytes(30), ["HDF5, as Keras writes it", ".pth and .safetensors files"]),
        (npz(), ["arrays (.npz)", ".pth and .safetensors files"]),
        (bytes(4096), ["zeros alone", "download it again"]),
    ],
)
def test_what_is_no_file_of_weights_is_said(tmp_path, suffix, content, words):
    path = tmp_path / f"resnet18{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="holds no weights that can be read: it is ") as error:
        read_weights(path)
    message = str(error.value)
    assert str(path) in message
    assert all(word in message for word in words), message
    assert "head of" not in message


def test_files_that_were_cut_off(tmp_path):
    for kind, said in [
        ("archive", "end is missing"),
        ("legacy", "cut off or damaged: download it again"),
        ("safetensors", "bytes"),
    ]:
        path = tmp_path / f"weights.{kind}"
        write(kind, path, WEIGHTS)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(UserError, match=said):
            read_weights(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"its head alone has \d+ bytes, the file 40; download it again"):
        read_weights(path)
