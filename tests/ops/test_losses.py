"""Losses: worked numbers, slow definitions, limits and gradients."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_jax.ops import dice_loss, sigmoid_focal_loss, smooth_l1
from vision_jax.types import Mean

DIFFERENCES = np.array([-3, -0.5, 0, 0.25, 0.5, 2], np.float32)
dice = jax.jit(dice_loss, static_argnums=2)


@partial(jax.jit, static_argnums=2)
def dice_and_gradient(probabilities, labels, squared):
    return jax.value_and_grad(lambda p: dice_loss(p, labels, squared)[0])(probabilities)


def test_smooth_l1_worked_by_hand():
    zeros = np.zeros(6, np.float32)
    by_beta = jax.jit(
        lambda differences: (
            smooth_l1(differences, zeros),
            smooth_l1(differences, zeros, 0.5),
            smooth_l1(differences, zeros, 0.0),
        )
    )(DIFFERENCES)
    np.testing.assert_allclose(by_beta[0], [2.5, 0.125, 0, 0.03125, 0.125, 1.5], rtol=1e-6)
    np.testing.assert_allclose(by_beta[1], [2.75, 0.25, 0, 0.0625, 0.25, 1.75], rtol=1e-6)
    np.testing.assert_allclose(by_beta[2], [3, 0.5, 0, 0.25, 0.5, 2])


def test_smooth_l1_has_slope_one_beyond_beta():
    slopes = jax.jit(jax.vmap(jax.grad(lambda d: smooth_l1(d, jnp.zeros(()), 0.5))))(DIFFERENCES)
    np.testing.assert_allclose(slopes, [-1, -1, 0, 0.5, 1, 1], rtol=1e-6)


def test_focal_loss_worked_by_hand():
    # At logit 0 both answers have p = 1/2: alpha (1/2)^2 log 2 for a 1, (1 - alpha) (1/2)^2 log 2 for a 0.
    logits, targets = np.array([0, 0, math.log(3)], np.float32), np.array([1, 0, 1], np.float32)
    expected = [0.25 / 4 * math.log(2), 0.75 / 4 * math.log(2), 0.25 / 16 * math.log(4 / 3)]
    found, unweighted = jax.jit(
        lambda logits: (sigmoid_focal_loss(logits, targets), sigmoid_focal_loss(logits, targets, alpha=-1.0))
    )(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(unweighted, np.divide(expected, [0.25, 0.75, 0.25]), rtol=1e-5)


def test_focal_loss_without_focus_is_cross_entropy():
    logits, targets = np.array([-2, 0.5, 3], np.float32), np.array([1, 0, 1], np.float32)
    expected = [math.log1p(math.exp(2)), math.log1p(math.exp(0.5)), math.log1p(math.exp(-3))]
    found = jax.jit(lambda logits: sigmoid_focal_loss(logits, targets, alpha=-1.0, gamma=0.0))(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "gamma", [0.5, *(pytest.param(gamma, marks=pytest.mark.slow) for gamma in (0.0, 2.0))]
)
def test_focal_loss_is_finite_at_extreme_logits(gamma):
    logits = np.array([-1e4, -100, 100, 1e4] * 2, np.float32)
    targets = np.repeat(np.array([0, 1], np.float32), 4)
    total, gradient = jax.jit(
        jax.value_and_grad(lambda x: jnp.sum(sigmoid_focal_loss(x, targets, gamma=gamma)))
    )(logits)
    # Wrong answers cost their logit; right ones nothing.
    assert total == pytest.approx((0.75 + 0.25) * (100 + 1e4), rel=1e-5)
    np.testing.assert_allclose(gradient, [0, 0, 0.75, 0.75, -0.25, -0.25, 0, 0], atol=1e-6)


def slow_dice_loss(probabilities, labels, squared):
    """By its definition, pixel by pixel; None where nothing is labeled."""
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
    probabilities = np.array([[[0.8, 0.2, 0], [0.5, 0.25, 0.25], [0, 0, 1]]], np.float32)
    labels = np.array([[0, 1, -1]])
    plain = 1 - (1.6 / 2.3 + 0.5 / (0.2 + 0.25 + 1)) / 2
    squared = 1 - (1.6 / 1.89 + 0.5 / (0.04 + 0.0625 + 1)) / 2
    for options, expected in (((), squared), ((True,), squared), ((False,), plain)):
        loss, counts = dice(probabilities, labels, *options)
        assert float(loss) == pytest.approx(expected, rel=1e-6)
        assert bool(counts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_dice_loss_is_its_definition_and_no_void_pixel_matters(seed, squared):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, rng.integers(1, 5), (4, 5))
    probabilities = rng.dirichlet(np.full(4, 0.5), labels.shape).astype(np.float32)
    probabilities[labels < 0] = np.nan
    loss, counts = dice(probabilities, labels, squared)
    expected = slow_dice_loss(probabilities, labels, squared)
    assert bool(counts) == (expected is not None)
    assert float(loss) == pytest.approx(expected or 0, rel=1e-5, abs=1e-6)
    truth = np.eye(4, dtype=np.float32)[np.maximum(labels, 0)]
    assert float(dice(truth, labels, squared)[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("squared", [True, False])
def test_gradients_of_dice_loss(squared):
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 3, (3, 4))
    logits = rng.normal(size=(3, 4, 5)).astype(np.float32)

    @jax.jit
    def loss_and_gradient(x):
        return jax.value_and_grad(lambda x: dice_loss(jax.nn.softmax(x), labels, squared)[0])(x)

    step = rng.normal(size=logits.shape).astype(np.float32)
    ahead, behind = (loss_and_gradient(logits + np.float32(size) * step)[0] for size in (1e-2, -1e-2))
    gradient = np.asarray(loss_and_gradient(logits)[1])
    assert (gradient * step).sum() == pytest.approx((float(ahead) - float(behind)) / 2e-2, rel=1e-2)
    np.testing.assert_array_equal(gradient[labels < 0], 0)


def test_gradients_of_dice_loss_are_finite_where_answers_are_sure_classes_absent_or_all_is_void():
    sure = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)  # what logits of 500 and -500 give
    for labels in ([[0, 1]], [[2, 2]], [[0, -1]], [[-1, -1]]):
        for squared in (True, False):
            loss, gradient = map(np.asarray, dice_and_gradient(sure, np.array(labels), squared))
            assert np.isfinite(loss)
            assert np.isfinite(gradient).all()
            # Right answers are the optimum of the squared form; sure and wrong ones are pulled away all the
            # same.
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
    probabilities = rng.dirichlet(np.ones(3), labels.shape).astype(np.float32)

    @jax.jit
    def mean(probabilities, labels):
        losses, counts = jax.vmap(dice_loss)(probabilities, labels)
        return Mean.over(losses, where=counts)

    parts = mean(probabilities[:4], labels[:4]), mean(probabilities[4:], labels[4:])
    assert [float(part.weight) for part in parts] == [1, 3]
    added = Mean(parts[0].total + parts[1].total, parts[0].weight + parts[1].weight)
    expected = [slow_dice_loss(probabilities[i], labels[i], True) for i in (3, 4, 6, 7)]
    assert float(added.value()) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(mean(probabilities, labels).value()) == pytest.approx(float(added.value()), rel=1e-6)
