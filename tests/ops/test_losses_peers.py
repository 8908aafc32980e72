"""Losses and their gradients are torch's and torchvision's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.ops import sigmoid_focal_loss, smooth_l1

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers


def compare(ours, theirs, prediction, target):
    """Element-wise values and gradients by the prediction."""
    values, pullback = jax.vjp(lambda p: ours(p, jnp.asarray(target)), jnp.asarray(prediction))
    leaf = torch.from_numpy(prediction).requires_grad_()
    expected = theirs(leaf, torch.from_numpy(target))
    expected.sum().backward()
    np.testing.assert_allclose(values, expected.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pullback(jnp.ones_like(values))[0], leaf.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_equals_torch(beta):
    prediction, target = np.random.default_rng(0).normal(size=(2, 30, 4)).astype(np.float32)
    compare(
        lambda p, t: smooth_l1(p, t, beta),
        lambda p, t: torch.nn.functional.smooth_l1_loss(p, t, beta=beta, reduction="none"),
        prediction,
        target,
    )


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 1.5), (-1.0, 2.0), (0.25, 0.0)])
def test_sigmoid_focal_loss_equals_torchvision(alpha, gamma):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (30, 4)).astype(np.float32)
    targets = random.integers(0, 2, (30, 4)).astype(np.float32)
    compare(
        lambda x, t: sigmoid_focal_loss(x, t, alpha, gamma),
        lambda x, t: torchvision.ops.sigmoid_focal_loss(x, t, alpha, gamma, reduction="none"),
        logits,
        targets,
    )
