"""ResNets: parameter counts of the paper's table, strides, pooling."""

import jax
import jax.numpy as jnp
import pytest

from vision_jax.backbones import resnet

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
