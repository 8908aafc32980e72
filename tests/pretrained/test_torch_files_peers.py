"""Files that torch itself wrote: every dtype, views, shared storages, both formats."""

import numpy as np
import pytest

from vision_jax.pretrained.torch_files import read_torch
from vision_jax.pretrained.weights import read_weights
from vision_jax.types import UserError

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers

both_formats = pytest.mark.parametrize("archive", [True, False])
DTYPES = [
    *("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"),
    *("complex64", "complex128", "uint16", "uint32", "uint64"),
    *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
]


def save(value, path, archive):
    torch.save(value, path, _use_new_zipfile_serialization=archive)
    return path


@both_formats
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_every_dtype_is_read(tmp_path, dtype, archive):
    numbers = torch.tensor([[0.0, 1, 2, 4]]).repeat(2, 1).to(getattr(torch, dtype))
    path = save({"w": numbers, "part": numbers[1:, ::2]}, tmp_path / "weights.pth", archive)
    found = read_weights(path)
    assert str(found["w"].dtype) == dtype
    for ours, theirs in ((found["w"], numbers), (found["part"], numbers[1:, ::2])):
        expected = theirs.to(torch.complex128 if theirs.is_complex() else torch.float64).numpy()
        np.testing.assert_array_equal(ours.astype(expected.dtype), expected)


@both_formats
def test_views_and_shared_storages(tmp_path, archive):
    whole = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "whole": whole,
        "turned": whole.permute(2, 0, 1),
        "strided": whole[:, ::2, 1::2],
        "repeated": whole[0, 0, :1].expand(5, 4),
        "empty": whole[:, :0],
        "one": whole[1, 2, 3],
        "parameter": torch.nn.Parameter(whole[1]),
        "tied": whole[1],
    }
    found = read_weights(save(tensors, tmp_path / "weights.pth", archive))
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.detach().numpy())
    assert np.shares_memory(found["parameter"], found["tied"])


@both_formats
def test_a_checkpoint_with_everything_around(tmp_path, archive):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": 0.25,
        "names": ["a", "b"],
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
    }
    path = save(checkpoint, tmp_path / "checkpoint.pth", archive)
    whole = read_torch(path)
    assert whole["epoch"] == 3
    assert whole["best"] == 0.25
    assert whole["size"] == (1, 2)
    assert whole["optimizer"]["param_groups"][0]["params"] == [0, 1, 2, 3]
    found = read_weights(path)
    assert list(found) == list(network.state_dict())
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


def test_a_whole_module_is_refused(tmp_path):
    path = save(torch.nn.Linear(2, 2), tmp_path / "module.pth", True)
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_weights(path)


@both_formats
def test_a_network_of_torchvision(tmp_path, archive):
    expected = torchvision.models.resnet18().state_dict()
    found = read_weights(save(expected, tmp_path / "resnet18.pth", archive))
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


@both_formats
def test_every_wrapper_of_torch(tmp_path, archive):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    outer = torch.nn.Module()
    outer.model = torch.compile(network)
    parallel = torch.nn.DataParallel
    wrapped = {
        "parallel": parallel(network),
        "compiled": torch.compile(network),
        "both": parallel(torch.compile(network)),
        "averaged": torch.optim.swa_utils.AveragedModel(network),
        "lightning": outer,
    }
    expected = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    for name, module in wrapped.items():
        names = module.state_dict()
        assert names.keys() != expected.keys()
        found = read_weights(
            save({"state_dict": names, "best_acc1": torch.tensor([71.0])}, tmp_path / name, archive)
        )
        assert list(found) == list(expected), name
        for key, tensor in expected.items():
            np.testing.assert_array_equal(found[key], tensor)
