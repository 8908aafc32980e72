"""Losses: worked numbers, slow definitions, limits and gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.ops import dice_loss, sigmoid_focal_loss, smooth_l1
from vision_jax.types import Mean

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


def slow_dice_loss(probabilities, labels, squared):
    """By its definition, pixel by pixel; None where nothing is labelled."""
    coefficients = []
    for k in range(probabilities.shape[-1]):
        shared = both = 0.0
        for p, label in zip(probabilities.reshape(-1, probabilities.shape[-1]), labels.ravel(), strict=True):
            if label >= 0:
                g = float(label == k)
                shared += p[k] * g
                both += (p[k] ** 2 if squared else p[k]) + g
        if np.any(labels == k):
            coefficients.append(2 * shared / both)
    return 1 - np.mean(coefficients) if coefficients else None


def test_dice_loss_worked_by_hand():
    # Three pixels, 0, 1 and void. Class 0: 2 * 0.8 / (0.8 + 0.5 + 1), or squared 2 * 0.8 / (0.64 + 0.25 + 1).
    probabilities = jnp.array([[[0.8, 0.2, 0.0], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]]])
    labels = jnp.array([[0, 1, -1]])
    plain = 1 - (1.6 / 2.3 + 0.5 / (0.2 + 0.25 + 1)) / 2
    squared = 1 - (1.6 / 1.89 + 0.5 / (0.04 + 0.0625 + 1)) / 2
    for options, expected in (({}, squared), ({"squared": True}, squared), ({"squared": False}, plain)):
        loss, counts = dice_loss(probabilities, labels, **options)
        assert float(loss) == pytest.approx(expected, rel=1e-6)
        assert bool(counts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_dice_loss_is_its_definition_and_no_void_pixel_matters(seed, squared):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, rng.integers(1, 5), (4, 5))
    probabilities = rng.dirichlet(np.full(4, 0.5), labels.shape).astype(np.float32)
    probabilities[labels < 0] = np.nan
    loss, counts = dice_loss(jnp.asarray(probabilities), jnp.asarray(labels), squared)
    expected = slow_dice_loss(probabilities, labels, squared)
    assert bool(counts) == (expected is not None)
    assert float(loss) == pytest.approx(expected or 0, rel=1e-5, abs=1e-6)
    truth = jnp.asarray(np.eye(4, dtype=np.float32)[np.maximum(labels, 0)])
    assert float(dice_loss(truth, jnp.asarray(labels), squared)[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("squared", [True, False])
def test_gradients_of_dice_loss(squared):
    rng = np.random.default_rng(1)
    labels = jnp.asarray(rng.integers(-1, 3, (3, 4)))
    logits = jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32)

    def loss(x):
        return dice_loss(jax.nn.softmax(x), labels, squared)[0]

    step = jnp.asarray(rng.normal(size=logits.shape), jnp.float32)
    slope = (loss(logits + 1e-2 * step) - loss(logits - 1e-2 * step)) / 2e-2
    gradient = jax.grad(loss)(logits)
    assert float((gradient * step).sum()) == pytest.approx(float(slope), rel=1e-2)
    np.testing.assert_array_equal(np.asarray(gradient)[np.asarray(labels) < 0], 0)


def test_gradients_of_dice_loss_are_finite_where_answers_are_sure_classes_absent_or_all_is_void():
    sure = jax.nn.softmax(jnp.array([[[500.0, -500, -500], [-500, 500, -500]]]))
    for labels in ([[0, 1]], [[2, 2]], [[0, -1]], [[-1, -1]]):
        for squared in (True, False):
            loss, gradient = jax.value_and_grad(
                lambda p, labels=jnp.array(labels), squared=squared: dice_loss(p, labels, squared)[0]
            )(sure)
            assert np.isfinite(loss)
            assert np.isfinite(gradient).all()
            # Right answers are the optimum of the squared form; sure and wrong ones are still drawn away.
            if labels == [[2, 2]]:
                np.testing.assert_array_less(gradient[..., 2], -0.5)
            if labels == [[-1, -1]]:
                assert loss == 0
                np.testing.assert_array_equal(gradient, 0)


def test_dice_losses_of_images_on_two_devices_are_those_on_one():
    """One device gets one image that counts, the other three of four."""
    rng = np.random.default_rng(2)
    labels = np.array(rng.integers(-1, 3, (8, 4, 4)))
    labels[[0, 1, 2, 5]] = -1
    probabilities = jnp.asarray(rng.dirichlet(np.ones(3), labels.shape), jnp.float32)

    def mean(part):
        losses, counts = jax.vmap(dice_loss)(probabilities[part], jnp.asarray(labels[part]))
        return Mean.over(losses, where=counts)

    parts = mean(slice(0, 4)), mean(slice(4, 8))
    assert [float(part.weight) for part in parts] == [1, 3]
    added = Mean(parts[0].total + parts[1].total, parts[0].weight + parts[1].weight)
    expected = [slow_dice_loss(np.asarray(probabilities[i]), labels[i], True) for i in (3, 4, 6, 7)]
    assert float(added.value()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(mean(slice(0, 8)).value()) == pytest.approx(float(added.value()), rel=1e-6)
