"""Inception networks without torchvision's weights: their papers' grids and channels; what they cost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.backbones.googlenet import GoogLeNet
from vision_jax.backbones.inception import InceptionV3, branch
from vision_jax.backbones.inception_v2 import InceptionV2
from vision_jax.backbones.inception_v4 import InceptionResNet, InceptionV4, ResidualBranches
from vision_jax.layers.multiplications import multiplications
from vision_jax.models.classification.image_classifier import ImageClassifier

NETWORKS = {
    # Ioffe and Szegedy 2015, figure 5; two billion multiplications.
    "v2": (InceptionV2(), 224, [(112, 64), (56, 192), (28, 320), (14, 576), (7, 1024)], 11_194_984, 2.02),
    # Szegedy et al. 2017, figures 3 and 9; the parameters that others count too.
    "v4": (InceptionV4(), 299, [(147, 64), (71, 192), (35, 384), (17, 1024), (8, 1536)], 42_679_816, 12.25),
    # Figures 10 to 15: 256, 896 and 1792 channels.
    "residual v1": (
        InceptionResNet("v1"),
        299,
        [(147, 64), (71, 192), (35, 256), (17, 896), (8, 1792)],
        22_756_328,
        6.21,
    ),
    # Figures 15 to 19: 384, and what joining three branches makes of it.
    "residual v2": (
        InceptionResNet("v2"),
        299,
        [(147, 64), (71, 192), (35, 384), (17, 1152), (8, 2144)],
        32_433_928,
        9.26,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_grids_channels_and_counts(name):
    backbone, side, grids, parameters, billions = NETWORKS[name]
    model = ImageClassifier(backbone, 1000)
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    outputs, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, method="scores"), image
    )
    found = [outputs[f"c{level}"].shape for level in range(1, 6)]
    assert found == [(1, size, size, channels) for size, channels in grids]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    count = multiplications(partial(model.apply, method="scores"), variables, image)
    assert round(count / 1e9, 2) == billions


def channels(backbone) -> list[int]:
    """Of `c1` to `c5`, which end in one cell."""
    image = jax.ShapeDtypeStruct((1, 75, 75, 3), jnp.float32)
    maps = jax.eval_shape(lambda x: backbone.init_with_output(jax.random.key(0), x)[0], image)
    assert max(maps["c5"].shape[1:3]) <= 3
    return [maps[f"c{level}"].shape[-1] for level in range(1, 6)]


@pytest.mark.parametrize("name", ["v4", pytest.param("residual v1", marks=pytest.mark.slow), "residual v2"])
def test_a_quarter_of_the_width_has_a_quarter_of_the_channels(name):
    backbone = NETWORKS[name][0].clone(blocks=(1, 1, 1), width=0.25)
    assert [4 * width for width in channels(backbone)] == [width for _, width in NETWORKS[name][2]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", [GoogLeNet(), InceptionV2(), InceptionV3()], ids=lambda b: type(b).__name__
)
def test_half_the_width_has_half_the_channels(backbone):
    assert [2 * width for width in channels(backbone.clone(width=0.5))] == channels(backbone)


def test_a_residual_module_adds_what_its_branches_found():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    module = ResidualBranches((branch("one", (2, 1)), branch("two", (2, 1), (4, 3))), 0.5, "batch")
    variables = jax.jit(partial(module.init, train=False))(jax.random.key(0), x)
    apply = jax.jit(lambda variables, x: module.apply(variables, x, False))
    kernel = np.asarray(variables["params"]["join"]["kernel"])
    assert kernel.shape == (1, 1, 6, 3)
    found = np.asarray(apply(variables, x))
    twice = jax.tree.map(lambda leaf: leaf, variables)
    twice["params"]["join"]["kernel"] = 2 * kernel
    more = np.asarray(apply(twice, x))
    inside = (found > 0) & (more > 0)  # not cut by the ReLU
    np.testing.assert_allclose((more - x)[inside], 2 * (found - x)[inside], atol=1e-5)
    nothing = jax.tree.map(np.zeros_like, variables["params"]["join"])
    twice["params"]["join"] = nothing
    np.testing.assert_allclose(apply(twice, x), np.maximum(x, 0), atol=1e-6)
