"""Training from what another network learnt: what is loaded, resized, left, not used; and the table."""

import logging
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.batches import classification_of, detection_of
from tests.pretrained.conftest import write_safetensors
from vision_jax.backbones import resnet
from vision_jax.backbones.vgg import vgg
from vision_jax.layers import FPN
from vision_jax.models.classification.image_classifier import ImageClassifier
from vision_jax.models.classification.small_cnn import SmallCNN
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, SingleLevel, residual_head
from vision_jax.models.segmentation.fcn import FCN, ConvolvedLayers
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.models.segmentation.segnet import segnet
from vision_jax.pretrained import starting_from
from vision_jax.pretrained.start import matched, resized
from vision_jax.pretrained.torchvision import ARCHITECTURES, recognize, to_torchvision
from vision_jax.training.checkpoints import TrainingProgress
from vision_jax.training.run_folder import RunFolder
from vision_jax.types import UserError


@cache
def shapes_of(model, side=64):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, method="scores"), image)


def shapes_of_detector(**parts):
    batch = detection_of(np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 1, 4)), np.zeros((1, 1)))
    model = FasterRCNN(num_classes=3, **parts)
    keys = {"params": jax.random.key(0), "sample": jax.random.key(0)}
    return jax.eval_shape(lambda b: model.init(keys, b, method="loss"), batch)


def numbers(shapes, seed):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: random.standard_normal(leaf.shape, np.float32), shapes)


def flat(variables):
    return flatten_dict(variables, sep="/")


def rows_of(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """A file of torchvision's names, and what it should become."""
    variables = numbers(shapes_of(ARCHITECTURES["resnet18"]().build(1000)), 0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    write_safetensors(path, to_torchvision("resnet18", variables))
    return path, flat(variables)


def test_a_classifiers_weights_begin_a_detector(resnet18, caplog):
    path, source = resnet18
    before = numbers(shapes_of_detector(backbone=resnet("resnet18", "frozen"), neck=FPN(8, "frozen")), 1)
    with caplog.at_level(logging.INFO, "vision_jax"):
        after = flat(starting_from(path)(before))
    for name, value in flat(before).items():
        expected = source[name] if name.split("/")[1] == "backbone" else value
        np.testing.assert_array_equal(after[name], expected, err_msg=name)
    rows = {(row[0], row[1]): row[2:] for row in rows_of(caplog.messages[-1].partition("\n\n")[2])}
    assert rows["loaded", "backbone"] == ["100", "11,186,112", ""]
    assert rows["left", "rpn"][2] == "there is none"
    assert rows["not used", "classifier"] == ["2", "513,000", "the model has no such layer"]
    assert {key[0] for key in rows} == {"loaded", "left", "not used"}


def grouped_classifier():
    return shapes_of(ImageClassifier(resnet("resnet18", "group"), 3))


def grouped_detector():
    return shapes_of_detector(backbone=resnet("resnet18", "group"), neck=FPN(8, "group"))


@pytest.mark.parametrize(
    "shapes", [grouped_classifier, pytest.param(grouped_detector, marks=pytest.mark.slow)]
)
def test_group_norms_have_no_use_for_statistics(resnet18, shapes):
    found, table = matched(numbers(shapes(), 1), resnet18[1], {})
    assert "batch_stats" not in found
    assert ["not used", "backbone", "40", "9,600", "the model's norms keep no statistics"] in rows_of(table)


@pytest.mark.slow
def test_the_last_stage_is_the_head_of_a_detector_without_one(resnet18):
    parts = {"neck": SingleLevel("c4"), "rpn": RPN(((16, 32),)), "head": residual_head("resnet18", "frozen")}
    shapes = shapes_of_detector(backbone=resnet("resnet18", "frozen", stages=3), pooled_size=14, **parts)
    found, table = matched(numbers(shapes, 1), resnet18[1], {})
    kernel = found["params"]["head"]["block2"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, resnet18[1]["params/backbone/stage4_block2/conv1/kernel"])
    assert any(row[:2] == ["loaded", "head"] and row[4] == "from backbone" for row in rows_of(table))


def test_other_classes_are_drawn_afresh_and_parts_can_be_left_out(resnet18):
    before = numbers(shapes_of(ARCHITECTURES["resnet18"]().build(10)), 1)
    after, table = matched(before, resnet18[1], {})
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(
            after["params"]["classifier"][leaf], before["params"]["classifier"][leaf]
        )
    assert ["left", "classifier/bias", "1", "10", "1000 there, 10 here"] in rows_of(table)
    same, table = matched(
        numbers(shapes_of(ARCHITECTURES["resnet18"]().build(1000)), 1), resnet18[1], {}, ("backbone",)
    )
    assert not np.array_equal(flat(same)["params/classifier/bias"], resnet18[1]["params/classifier/bias"])
    np.testing.assert_array_equal(
        flat(same)["params/backbone/stem_conv/kernel"], resnet18[1]["params/backbone/stem_conv/kernel"]
    )
    assert rows_of(table) == [
        ["loaded", "backbone", "100", "11,186,112", ""],
        ["left", "classifier", "2", "513,000", "not asked for"],
    ]


def test_resizing_keeps_what_a_constant_map_gives():
    random = np.random.default_rng(0)
    taps = random.normal(size=(7, 7, 3, 4)).astype(np.float32)
    for side in (5, 9):
        found, said = resized(taps, (side, side, 3, 4))
        assert said == f"7x7x3x4 there, {side}x{side}x3x4 here"
        np.testing.assert_allclose(found.sum((0, 1)), taps.sum((0, 1)), rtol=1e-4, atol=1e-4)
    gray, said = resized(taps, (7, 7, 1, 4))
    assert said == "summed over colors"
    np.testing.assert_allclose(gray[..., 0, :], taps.sum(2), rtol=1e-6)
    layer = random.normal(size=(6 * 6 * 2, 5)).astype(np.float32)
    found, _ = resized(layer, (3 * 3 * 2, 5), (6, 6))
    constant = np.tile([1.0, 2.0], 36) @ layer
    np.testing.assert_allclose(np.tile([1.0, 2.0], 9) @ found, constant, rtol=1e-4, atol=1e-4)


def test_resizing_keeps_the_pattern():
    """A bump keeps its location, and half as many locations have half as much of it."""
    bump = np.exp(-((np.arange(8) - 2.5) ** 2) / 4)
    taps = (bump[:, None] * bump)[..., None, None].astype(np.float32)
    found = resized(taps, (4, 4, 1, 1))[0][..., 0, 0]
    assert np.unravel_index(found.argmax(), (4, 4)) == (1, 1)
    blocks = taps[..., 0, 0].reshape(4, 2, 4, 2).sum((1, 3))
    assert np.corrcoef(found.ravel(), blocks.ravel())[0, 1] > 0.98
    assert np.abs(found - blocks).max() < 0.25 * blocks.max()


def test_what_has_no_meaning_is_not_resized():
    taps, layer = np.ones((7, 7, 3, 4), np.float32), np.ones((72, 5), np.float32)
    assert resized(layer, (18, 5)) == (None, "72x5 there, 18x5 here")
    for array, shape in [(taps, (7, 7, 3, 5)), (taps, (7, 7, 2, 4)), (taps, (3, 4)), (layer, (18, 6))]:
        assert resized(array, shape, (6, 6))[0] is None
    assert resized(layer, (10, 5), (6, 6))[0] is None


def test_a_run_of_ours_begins_another(tmp_path, caplog):
    model = SmallCNN(num_classes=4, widths=(4, 8))
    batch = classification_of(np.zeros((1, 8, 8, 3), np.uint8), [0])
    shapes = jax.eval_shape(lambda b: model.init(jax.random.key(0), b), batch)
    learnt, before = numbers(shapes, 0), numbers(shapes, 1)
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.save(learnt, {"step": np.int32(0)}, TrainingProgress(step=3))
    after = starting_from(tmp_path / "run")(before)
    jax.tree.map(np.testing.assert_array_equal, after, learnt)
    assert jax.tree.structure(after) == jax.tree.structure(before)


def test_weights_that_do_not_fit_are_told(resnet18, tmp_path):
    path, _ = resnet18
    before = {"params": {"other": {"kernel": np.zeros((2, 2), np.float32)}}}
    assert starting_from(None) is None
    with pytest.raises(
        UserError, match=r"(?s)nothing in .*resnet18\.safetensors fits the model:.*left .*other"
    ):
        starting_from(path)(before)
    with pytest.raises(UserError, match=r"fits the model in neck:"):
        starting_from(path, ("neck",))(before)
    with pytest.raises(UserError, match=r"cannot read .*nowhere\.pth: No such file"):
        starting_from(tmp_path / "nowhere.pth")(before)
    stranger = tmp_path / "stranger.safetensors"
    write_safetensors(stranger, {"layer.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(
        UserError, match="is of no classifier that is known here, whose tensors begin with layer"
    ):
        starting_from(stranger)(before)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no checkpoint"):
        starting_from(tmp_path / "empty")(before)


def test_architectures_are_told_apart_by_their_names():
    for name in ("resnet18", "resnet34", "resnet50", "resnet101", "vgg13", "vgg13_bn", "googlenet"):
        tensors = {f"{layer.theirs}.weight": np.zeros(()) for layer in ARCHITECTURES[name]().layers}
        assert recognize(tensors) == name
        last = list(tensors)[-1]
        del tensors[last]
        without = {key: value for key, value in tensors.items() if not key.startswith("aux")}
        assert recognize(without) == name
        assert recognize({**tensors, "more.weight": np.zeros(())}) is None


def shapes_of_segmenter(network):
    return shapes_of(Segmenter(network))


def test_a_classifiers_weights_begin_a_segmenters_backbone(resnet18):
    path, source = resnet18
    before = numbers(shapes_of_segmenter(FCN(5, resnet("resnet18"))), 1)
    after = flat(starting_from(path, ("backbone",))(before))
    for name, value in flat(before).items():
        expected = source[name.replace("/network/", "/")] if "/backbone/" in name else value
        np.testing.assert_array_equal(after[name], expected, err_msg=name)


def test_linear_layers_become_convolutions():
    """VGG's first one sees 7x7 locations, and answers at every location as a 7x7 convolution."""
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 4)).astype(np.float32)
    dense = np.random.default_rng(1).normal(size=(2 * 3 * 4, 5)).astype(np.float32)
    kernel, _ = resized(dense, (2, 3, 4, 5), (2, 3))
    answer = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(answer[0, 0], x.reshape(1, -1) @ dense, rtol=1e-4)
    assert resized(dense, (1, 1, 5, 5), (2, 3))[0] is None

    shapes = jax.tree.map(lambda leaf: leaf, shapes_of(ARCHITECTURES["vgg11"]().build(10), 32))
    for name, inputs in (("layer1", 7 * 7 * 512), ("layer2", 8)):  # 8 units for 4,096
        shapes["params"]["head"][name]["kernel"] = jax.ShapeDtypeStruct((inputs, 8), jnp.float32)
        shapes["params"]["head"][name]["bias"] = jax.ShapeDtypeStruct((8,), jnp.float32)
    vgg11 = numbers(shapes, 0)
    before = shapes_of_segmenter(FCN(5, vgg("vgg11"), head=ConvolvedLayers(8)))
    map_sizes = {"params/head/layer1/kernel": (7, 7)}
    found, table = matched(numbers(before, 1), flat(vgg11), map_sizes)
    layer = vgg11["params"]["head"]["layer1"]["kernel"].reshape(7, 7, 512, 8)
    np.testing.assert_allclose(found["params"]["network"]["head"]["layer1"]["kernel"], layer, atol=1e-5)
    layer = vgg11["params"]["head"]["layer2"]["kernel"]
    np.testing.assert_array_equal(found["params"]["network"]["head"]["layer2"]["kernel"][0, 0], layer)
    resized_rows = [row[1] for row in rows_of(table) if row[0] == "resized"]
    assert resized_rows == ["head/layer1/kernel", "head/layer2/kernel"]


@pytest.mark.slow
def test_vgg_begins_segnet_and_a_segmenter_a_detector(resnet18):
    source = numbers(shapes_of(ARCHITECTURES["vgg16_bn"]().build(10), 32), 0)
    found, _ = matched(numbers(shapes_of_segmenter(segnet(5)), 1), flat(source), {})
    there, here = source["params"]["backbone"], found["params"]["network"]
    np.testing.assert_array_equal(
        here["encoder3"]["conv2"]["conv"]["kernel"], there["stage3_conv2"]["kernel"]
    )
    np.testing.assert_array_equal(here["encoder3"]["conv2"]["norm"]["bias"], there["stage3_norm2"]["bias"])

    segmenter = numbers(shapes_of_segmenter(FCN(5, resnet("resnet18"))), 2)
    before = numbers(shapes_of_detector(backbone=resnet("resnet18"), neck=FPN(8, "group")), 1)
    found, _ = matched(before, flat(segmenter), {}, ("backbone",))
    np.testing.assert_array_equal(
        found["params"]["backbone"]["stem_conv"]["kernel"],
        segmenter["params"]["network"]["backbone"]["stem_conv"]["kernel"],
    )
