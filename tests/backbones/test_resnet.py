"""ResNets: parameter counts of the paper's table, strides, pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.backbones import resnet
from vision_jax.backbones.resnet import max_pool_3x3

# torchvision's counts less the classifier's 512 (or 2048) x 1000 + 1000.
COUNTS = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_strides(name):
    model = resnet(name)
    image = jax.ShapeDtypeStruct((1, 97, 131, 3), jnp.float32)
    maps, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == COUNTS[name]
    wide = 4 if name == "resnet50" else 1
    for level, (key, leaf) in enumerate(sorted(maps.items())):
        stride = 4 * 2**level
        assert key == f"c{level + 2}"
        assert leaf.shape == (1, -(-97 // stride), -(-131 // stride), 64 * 2**level * wide)


def test_max_pool_takes_the_window_of_torch():
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (1, 7, 6, 2)), jnp.float32)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = [[padded[0, i : i + 3, j : j + 3].max((0, 1)) for j in (0, 2, 4)] for i in (0, 2, 4, 6)]
    np.testing.assert_array_equal(max_pool_3x3(x)[0], np.array(expected))
