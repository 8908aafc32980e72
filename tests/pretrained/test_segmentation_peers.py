"""Torchvision's FCN weights give torchvision's scores, auxiliary ones too."""

from functools import partial

import jax
import numpy as np
import pytest

from vision_jax.pretrained.segmentation import fcn_from_torchvision
from vision_jax.types import UserError

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def network():
    """Random weights and statistics of some images, changed at random."""
    torch.manual_seed(0)
    make = torchvision.models.segmentation.fcn_resnet50
    network = make(weights=None, weights_backbone=None, num_classes=7, aux_loss=True)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 64))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean += 0.2 * module.running_var.sqrt() * torch.randn(module.num_features)
                module.running_var *= torch.empty(module.num_features).uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
    return network


def arrays(network):
    return {name: tensor.detach().numpy().copy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 83)])
def test_scores_of_converted_segmenters_equal_torchvision(network, height, width):
    model, variables = fcn_from_torchvision("fcn_resnet50", arrays(network))
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    with torch.no_grad():
        network.eval()
        expected = (
            network(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))["out"].permute(0, 2, 3, 1).numpy()
        )
    logits = jax.jit(partial(model.apply, method="scores"))(variables, x)["logits"]
    assert np.abs(expected).max() > 0.05
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-4


def test_auxiliary_scores_and_statistics_when_training(network):
    """In training mode without dropout: both scores come from this batch's moments."""
    model, variables = fcn_from_torchvision("fcn_resnet50", arrays(network))
    x = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
    trained = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=7, aux_loss=True
    )
    trained.load_state_dict(network.state_dict())
    trained.train()
    for module in trained.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    with torch.no_grad():
        theirs = trained(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    apply = partial(model.apply, method="scores", train=True, mutable=["batch_stats"])
    ours, changed = jax.jit(apply)(variables, x)
    for name, there in (("logits", "out"), ("auxiliary", "aux")):
        expected = theirs[there].permute(0, 2, 3, 1).numpy()
        assert np.abs(ours[name] - expected).max() / np.abs(expected).max() < 1e-3, name
    stem = changed["batch_stats"]["network"]["backbone"]["stem_norm"]["variance"]
    np.testing.assert_allclose(stem, trained.state_dict()["backbone.bn1.running_var"], rtol=1e-4)


def test_weights_without_auxiliary_scores_and_others_classes(network):
    tensors = {name: x for name, x in arrays(network).items() if not name.startswith("aux")}
    model, _ = fcn_from_torchvision("fcn_resnet50", tensors)
    assert model.network.auxiliary_level is None
    assert model.network.num_classes == 7
    with pytest.raises(UserError, match=r"no classifier\.4\.weight: it is not of fcn_resnet50"):
        fcn_from_torchvision("fcn_resnet50", {"fc.weight": np.zeros((2, 3), np.float32)})
    tensors["classifier.0.weight"] = np.zeros((1, 2, 3, 3), np.float32)
    with pytest.raises(
        UserError, match=r"classifier\.0\.weight has the shape \(1, 2, 3, 3\), not \(512, 2048"
    ):
        fcn_from_torchvision("fcn_resnet50", tensors)
