"""Element-wise losses: worked numbers, limits and gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.ops import sigmoid_focal_loss, smooth_l1

DIFFERENCES = jnp.array([-3.0, -0.5, 0.0, 0.25, 0.5, 2.0])


def test_smooth_l1_worked_by_hand():
    zeros = jnp.zeros(6)
    np.testing.assert_allclose(smooth_l1(DIFFERENCES, zeros), [2.5, 0.125, 0, 0.03125, 0.125, 1.5], rtol=1e-6)
    np.testing.assert_allclose(
        smooth_l1(DIFFERENCES, zeros, 0.5), [2.75, 0.25, 0, 0.0625, 0.25, 1.75], rtol=1e-6
    )
    np.testing.assert_allclose(smooth_l1(DIFFERENCES, zeros, 0.0), [3, 0.5, 0, 0.25, 0.5, 2])


def test_smooth_l1_has_slope_one_beyond_beta():
    slopes = jax.vmap(jax.grad(lambda d: smooth_l1(d, jnp.zeros(()), 0.5)))(DIFFERENCES)
    np.testing.assert_allclose(slopes, [-1, -1, 0, 0.5, 1, 1], rtol=1e-6)


def test_focal_loss_worked_by_hand():
    # At logit 0 both answers have p = 1/2: alpha (1/2)^2 log 2 for a 1, (1 - alpha) (1/2)^2 log 2 for a 0.
    logits, targets = jnp.array([0.0, 0.0, math.log(3)]), jnp.array([1.0, 0.0, 1.0])
    expected = [0.25 / 4 * math.log(2), 0.75 / 4 * math.log(2), 0.25 / 16 * math.log(4 / 3)]
    np.testing.assert_allclose(sigmoid_focal_loss(logits, targets), expected, rtol=1e-5)
    np.testing.assert_allclose(
        sigmoid_focal_loss(logits, targets, alpha=-1.0), np.divide(expected, [0.25, 0.75, 0.25]), rtol=1e-5
    )


def test_focal_loss_without_focus_is_cross_entropy():
    logits, targets = jnp.array([-2.0, 0.5, 3.0]), jnp.array([1.0, 0.0, 1.0])
    expected = [math.log1p(math.exp(2)), math.log1p(math.exp(0.5)), math.log1p(math.exp(-3))]
    np.testing.assert_allclose(
        sigmoid_focal_loss(logits, targets, alpha=-1.0, gamma=0.0), expected, rtol=1e-5
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_is_finite_at_extreme_logits(gamma):
    logits, targets = jnp.array([-1e4, -100.0, 100.0, 1e4] * 2), jnp.repeat(jnp.array([0.0, 1.0]), 4)
    total, gradient = jax.jit(
        jax.value_and_grad(lambda x: jnp.sum(sigmoid_focal_loss(x, targets, gamma=gamma)))
    )(logits)
    # Wrong answers cost their logit; right ones nothing.
    assert total == pytest.approx((0.75 + 0.25) * (100 + 1e4), rel=1e-5)
    np.testing.assert_allclose(gradient, [0, 0, 0.75, 0.75, -0.25, -0.25, 0, 0], atol=1e-6)
