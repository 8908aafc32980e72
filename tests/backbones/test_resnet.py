"""ResNets: parameter counts of the paper's table, strides, pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.backbones import resnet
from vision_jax.backbones.resnet import ResNet

# torchvision's counts less the classifier's 512 (or 2048) x 1000 + 1000.
COUNTS = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032}


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet34", marks=pytest.mark.slow), "resnet50"])
def test_parameters_and_strides_are_the_published_ones(name):
    model = resnet(name)
    image = jax.ShapeDtypeStruct((1, 97, 131, 3), jnp.float32)
    maps, variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == COUNTS[name]
    wide = 4 if name == "resnet50" else 1
    for level, (key, leaf) in enumerate(sorted(maps.items())):
        stride = 4 * 2**level
        assert key == f"c{level + 2}"
        assert leaf.shape == (1, -(-97 // stride), -(-131 // stride), 64 * 2**level * wide)


@pytest.mark.slow
@pytest.mark.parametrize(("bottleneck", "blocks"), [(False, 1), (False, 2), (True, 1), (True, 2)])
def test_dilation_gives_what_strides_give_and_what_lies_between(bottleneck, blocks):
    """Every fourth position of the map at stride 8 is a position of the map at stride 32."""
    strided = ResNet((1, 1, blocks, blocks), bottleneck, "frozen", width=4)

    @jax.jit
    def maps(x):
        variables = strided.init(jax.random.key(1), x)
        return [strided.clone(output_stride=stride).apply(variables, x) for stride in (8, 16, 32)]

    x = np.random.default_rng(0).normal(size=(1, 96, 128, 3)).astype(np.float32)
    dense, half, coarse = jax.device_get(maps(x))
    assert dense["c5"].shape[1:3] == (12, 16)
    np.testing.assert_allclose(dense["c5"][:, ::4, ::4], coarse["c5"], atol=1e-4)
    np.testing.assert_allclose(dense["c4"][:, ::2, ::2], coarse["c4"], atol=1e-4)
    np.testing.assert_array_equal(dense["c3"], coarse["c3"])
    np.testing.assert_allclose(half["c5"][:, ::2, ::2], coarse["c5"], atol=1e-4)
