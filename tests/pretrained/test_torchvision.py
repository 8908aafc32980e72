"""Weights there and back, and the commands that use them, without torch."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.pretrained.conftest import write_safetensors
from vision_jax.cli import main
from vision_jax.models.classification.inceptions import INCEPTIONS
from vision_jax.pretrained.torchvision import ARCHITECTURES, from_torchvision, to_torchvision
from vision_jax.types import UserError


@cache
def shapes(name, classes):
    architecture = ARCHITECTURES[name]()
    model = architecture.build(classes)
    image = jax.ShapeDtypeStruct((1, architecture.crop, architecture.crop, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x, method="scores"), jax.random.key(0), image)


def random_weights(name, classes):
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: random.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes(name, classes)
    )
    return to_torchvision(name, variables), variables


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "googlenet", "mobilenet_v3_small"])
def test_weights_exported_and_imported_are_the_same(name):
    tensors, variables = random_weights(name, 5)
    ours = from_torchvision(name, tensors)
    jax.tree.map(np.testing.assert_array_equal, dict(ours.variables), variables)
    assert ours.model.num_classes == 5
    if name == "alexnet":
        assert tensors["features.0.weight"].shape == (64, 3, 11, 11)
        assert tensors["classifier.1.weight"].shape == (4096, 9216)


@pytest.mark.slow
def test_converted_weights_classify_photographs(tmp_path, capsys):
    tensors, _ = random_weights("mobilenet_v3_small", 3)
    tensors["classifier.3.weight"] = np.zeros((3, 1024), np.float32)
    tensors["classifier.3.bias"] = np.array([0, 100, 50], np.float32)
    weights, photo, names = tmp_path / "weights.safetensors", tmp_path / "photo.png", tmp_path / "names.txt"
    write_safetensors(weights, tensors)
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(photo)
    names.write_text("cat\ndog\nowl\n")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    words = ["predict", "--model", "mobilenet_v3_small", "--weights", str(weights), "--classes", str(names)]
    assert main([*words, str(photo), str(tmp_path / "broken.png"), "--out", str(tmp_path / "out")]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines if line[0].endswith("%")] == ["dog", "owl", "cat"]
    assert (tmp_path / "out" / "predictions.json").is_file()
    for change, message in [
        (["--model", "mobilenet_v9"], "there is no model 'mobilenet_v9'"),
        (["--weights", str(photo)], "holds no weights that can be read"),
        (["--classes", str(photo)], "photo.png: not in UTF-8"),
    ]:
        assert main([*words, *change, str(photo)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_of_ours_is_as_good_as_the_file(tmp_path, capsys):
    tensors, variables = random_weights("mobilenet_v3_small", 3)
    weights, folder = tmp_path / "weights.safetensors", tmp_path / "converted"
    write_safetensors(weights, tensors)
    folder.mkdir()
    (folder / ".DS_Store").write_bytes(b"x")  # a folder that was made with Finder
    words = ["convert", str(weights), "--model", "mobilenet_v3_small", "--out", str(folder)]
    assert main(words) == 0
    assert "mobilenet_v3_small of 3 classes" in capsys.readouterr().out
    for inside in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        (inside / "._x").write_bytes(b"\0\5\26\7")
    ours = from_torchvision("mobilenet_v3_small", folder)
    jax.tree.map(np.testing.assert_array_equal, dict(ours.variables), variables)
    assert ours.model.num_classes == 3
    assert main(words) == 2
    assert "give a new folder" in capsys.readouterr().err
    assert main(["convert", str(weights), "--model", "resnet18", "--out", str(tmp_path / "other")]) == 2
    assert "it may be of mobilenet_v3_small" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match=r"converted, as resnet18: conv1\.weight .* is missing"):
        from_torchvision("resnet18", folder)


@pytest.mark.slow
def test_the_list_of_models(capsys):
    assert main(["models", "--classes", "10"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(ARCHITECTURES) + len(INCEPTIONS)
    assert any("inception_v4" in row and "299x299" in row and "Szegedy et al. 2017" in row for row in rows)
    assert any("resnet50" in row and "23,528,522" in row and "4.09" in row for row in rows)
