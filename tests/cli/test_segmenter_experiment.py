"""The segmenters' recipe and claims: every network is built, and what cannot be is refused."""

from typing import get_args

import jax
import jax.numpy as jnp
import pytest

from tests.paths import CLAIMS
from vision_jax.cli.origins import find_origin, load_experiment, load_module
from vision_jax.training.experiment import Gradient
from vision_jax.training.freezing import frozen
from vision_jax.types import SegmentationSpec, UserError

CLASSES = ("road", "sky", "tree")


def parameters(experiment, side: int = 160):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    model = experiment.model(SegmentationSpec(CLASSES, (64, 64)))
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, method="scores"), image)["params"]


@pytest.fixture(scope="module")
def segmenter():
    return load_experiment(find_origin("segmenter"))


@pytest.mark.slow
def test_every_network_scores_the_classes(segmenter):
    networks = get_args(segmenter.__globals__["Network"])
    assert len(networks) == 9
    for network in networks:
        tree = parameters(segmenter(network=network))["network"]
        last = [name for name in tree if name.startswith("score")]
        assert all(tree[name]["bias"].shape == (3,) for name in last), network
        assert len(last) == {"fcn_16s": 2, "fcn_8s": 3}.get(network, 1), network
    assert "head" in parameters(segmenter(network="fcn_8s", backbone="vgg16"))["network"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "unet", "backbone": "vgg16"}, "--backbone: unet has an encoder of its own"),
        ({"network": "segnet", "widths": (8, 8)}, "segnet takes 5, not 2"),
        ({"network": "segnet_basic", "widths": (8, 8)}, "segnet_basic takes 1, not 2"),
        ({"network": "fcn_8s", "widths": (8,)}, "fcn_8s has those of its backbone"),
        ({"network": "fcn_8s", "upsampling": "nearest"}, "fcn_8s has its own upsampling"),
        (
            {"network": "unet", "upsampling": "max_unpooling"},
            "U-Net does not keep its maxima's locations",
        ),
        ({"network": "fcn_8s", "backbone": "vgg16", "norm": "group"}, "VGG-16 has no norms"),
    ],
)
def test_what_a_network_has_not_is_refused(segmenter, arguments, message):
    with pytest.raises(UserError, match=message):
        segmenter(**arguments)


def test_a_frozen_fcn_learns_its_scores_alone():
    experiment = load_experiment(find_origin(str(CLAIMS["fcn_skips"])))(skips="32s", frozen=True)
    tree = parameters(experiment)
    (stage,) = experiment.stages
    assert isinstance(stage, Gradient)
    still = jax.tree_util.tree_leaves_with_path(frozen(tree, stage.freeze))
    learnt = {jax.tree_util.keystr(path, simple=True, separator="/") for path, stays in still if not stays}
    assert learnt == {"network/score_c5/kernel", "network/score_c5/bias"}


def test_a_staged_fcn_adds_one_skip_after_the_other():
    experiment = load_experiment(find_origin(str(CLAIMS["fcn_skips"])))(skips="8s", staged=True)
    tree = parameters(experiment)
    scored = []
    for stage in experiment.stages:
        assert isinstance(stage, Gradient)
        assert stage.train.steps == 133
        still = jax.tree_util.tree_leaves_with_path(frozen(tree, stage.freeze))
        learnt = {path[1].key for path, stays in still if not stays and path[1].key != "backbone"}
        scored.append(learnt)
        assert stage.model(experiment.model(SegmentationSpec(("a", "b"), (64, 64)))).network.used == len(
            scored
        )
    assert scored[0] == {"score_c5"}
    assert scored[1] == {"score_c5", "score_c4", "upsample_c4"}
    assert scored[2] == {"score_c5", "score_c4", "upsample_c4", "score_c3", "upsample_c3"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["upsampling", "full_resolution", "fcn_skips"])
def test_every_point_of_a_sweep_is_a_model(name):
    module = load_module(find_origin(str(CLAIMS[name])))
    points = [{k: v for k, v in p.items() if "." not in k and k != "seed"} for p in module.SWEEP]
    unique = {str(point): point for point in points}
    for point in unique.values():
        settings = {**point, "balance": "none"} if name == "upsampling" else point
        assert parameters(module.experiment(**settings), 64)
