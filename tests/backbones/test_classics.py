"""The classic classifiers: parameters as torchvision counts them, maps and their strides."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from vision_jax.layers.multiplications import multiplications
from vision_jax.pretrained.torchvision import ARCHITECTURES

# With 1,000 classes: parameters, auxiliary classifiers' too, and billions of multiplications for an image.
COUNTS = {
    "alexnet": (61_100_840, 0.71),
    "vgg11": (132_863_336, 7.61),
    "vgg13": (133_047_848, 11.31),
    "vgg16": (138_357_544, 15.47),
    "vgg19": (143_667_240, 19.63),
    "vgg11_bn": (132_868_840, 7.61),
    "vgg13_bn": (133_053_736, 11.31),
    "vgg16_bn": (138_365_992, 15.47),
    "vgg19_bn": (143_678_248, 19.63),
    "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66),
    "resnet50": (25_557_032, 4.09),
    "resnet101": (44_549_160, 7.80),
    "resnet152": (60_192_808, 11.51),
    "googlenet": (13_004_888, 1.50),
    "inception_v3": (27_161_264, 5.71),
    "mobilenet_v2": (3_504_872, 0.30),
    "mobilenet_v3_large": (5_483_032, 0.22),
    "mobilenet_v3_small": (2_542_856, 0.06),
}


def test_every_architecture_has_a_published_count():
    assert set(COUNTS) == set(ARCHITECTURES)


# One of each family.
DEFAULT = ("alexnet", "vgg11_bn", "resnet18", "googlenet", "mobilenet_v2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in DEFAULT else pytest.mark.slow) for name in COUNTS]
)
def test_parameters_multiplications_and_strides_are_the_published_ones(name):
    architecture = ARCHITECTURES[name]()
    model, side = architecture.build(1000), architecture.crop
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    outputs, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, method="scores"), image
    )
    parameters, billions = COUNTS[name]
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    scores = partial(model.apply, method="scores")
    assert round(multiplications(scores, variables, image) / 1e9, 2) == billions
    assert outputs["logits"].shape == (1, 1000)
    levels = {int(key[1]): leaf.shape for key, leaf in outputs.items() if key[0] == "c"}
    assert set(range(3, 6)) <= set(levels)
    for level, (_, rows, columns, _) in levels.items():
        assert rows == columns
        # Convolutions without a border (AlexNet's poolings, Inception v3) lose a few pixels on the way.
        assert side / 2**level - 4 <= rows <= side / 2**level
    used = {layer.ours for layer in architecture.layers}
    assert used == {
        "/".join(p.key for p in path[:-1])
        for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
