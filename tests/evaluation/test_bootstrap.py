"""Intervals against known standard errors, pairing, and how often they hold the truth."""

import math
from unittest import mock

import numpy as np
import pytest

from vision_jax.evaluation import Difference, PerImage, bootstrap, difference, interval
from vision_jax.evaluation.per_image.kinds import Means, Pixels
from vision_jax.types import UserError


def arm(values, seeds=None, ids=None):
    """Of one metric, by seed and image."""
    values = np.asarray(values, float)
    seeds = range(len(values)) if seeds is None else seeds
    ids = np.arange(values.shape[1]) if ids is None else np.asarray(ids)
    return {seed: PerImage(ids, (Means({"m": each}),)) for seed, each in zip(seeds, values, strict=True)}


def half_width(result):
    return (result.high - result.low) / 2


def test_the_value_is_the_plain_difference_of_means():
    first, second = arm([[0, 0, 1, 0], [1, 0, 1, 0]]), arm([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
    result = difference(first, second, "m", resamples=50)
    assert result == Difference(result.value, result.low, result.high, images=4, seeds=(2, 3), paired=False)
    assert result.value == pytest.approx(10 / 12 - 3 / 8)
    assert result.low < result.value < result.high
    alone = interval(second, "m", resamples=50)
    assert (alone.value, alone.images, alone.seeds) == (pytest.approx(10 / 12), 4, 3)


def test_one_seed_gives_the_standard_error_of_a_mean():
    rng = np.random.default_rng(0)
    right = (rng.random(400) < 0.7).astype(float)
    result = interval(arm([right]), "m", resamples=4000)
    assert half_width(result) == pytest.approx(1.96 * right.std() / math.sqrt(400), rel=0.06)
    narrow = interval(arm([right]), "m", resamples=4000, level=0.5)
    assert half_width(narrow) == pytest.approx(0.674 * right.std() / math.sqrt(400), rel=0.08)


def test_images_and_seeds_both_add_to_the_variance():
    # Values are an image's part plus a seed's: the variances of the two means add.
    rng = np.random.default_rng(1)
    by_image, by_seed = rng.normal(0, 1, 150), rng.normal(0, 0.3, 12)
    result = interval(arm(by_seed[:, None] + by_image), "m", resamples=4000)
    images, seeds = by_image.var() / 150, by_seed.var() / 12
    assert min(images, seeds) > 0.4 * max(images, seeds)
    assert half_width(result) == pytest.approx(1.96 * math.sqrt(images + seeds), rel=0.06)


def test_what_both_arms_have_in_common_cancels_where_they_are_paired():
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (5, 40)) + rng.normal(0, 1, (5, 1))
    first, second = arm(values), arm(values + 0.25)
    paired = difference(first, second, "m", resamples=200)
    assert paired.paired
    np.testing.assert_allclose([paired.value, paired.low, paired.high], 0.25, rtol=0, atol=1e-12)
    # The same runs in another order of seeds and of images.
    order = rng.permutation(40)
    shuffled = arm(values[::-1, order] + 0.25, seeds=range(5)[::-1], ids=order)
    again = difference(first, shuffled, "m", resamples=200)
    np.testing.assert_allclose([again.low, again.high], 0.25, rtol=0, atol=1e-12)
    # Called by other seeds, they are other trainings: the seeds' variance comes in twice.
    unpaired = difference(first, arm(values + 0.25, seeds=range(1, 6)), "m", resamples=3000)
    assert not unpaired.paired
    mean_of_seed = values.mean(axis=1)
    assert half_width(unpaired) > 1.96 * math.sqrt(2 * mean_of_seed.var() / 5) * 0.9


def test_an_arm_does_not_differ_from_itself_run_again():
    rng = np.random.default_rng(3)
    chance = rng.random(200)
    first, second = (arm(rng.random((4, 200)) < chance, seeds=range(s, s + 4)) for s in (0, 4))
    result = difference(first, second, "m", resamples=500)
    assert result.low < 0 < result.high
    swapped = difference(second, first, "m", resamples=500)
    assert swapped.value == -result.value
    better = arm(rng.random((4, 200)) < np.clip(chance + 0.25, 0, 1), seeds=range(4, 8))
    assert difference(first, better, "m", resamples=500).low > 0


@pytest.mark.parametrize("trainings", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(trainings):
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(250):
        # Two arms with the same expected value; images matter to both alike and to each on its own.
        shared, own = rng.normal(0, 1, 50), rng.normal(0, 0.5, (2, 50))
        luck = rng.normal(0, 0.1, (2, trainings, 1)) * (trainings > 1)
        noise = rng.normal(0, 0.1, (2, trainings, 50))
        values = shared + own[:, None] + luck + noise
        seeds = [range(trainings), range(trainings)]
        first, second = (arm(v, s) for v, s in zip(values, seeds, strict=True))
        result = difference(first, second, "m", resamples=200)
        held += result.low <= 0 <= result.high
    assert 0.9 <= held / 250 <= 0.98


def test_the_same_seed_resamples_the_same_and_parts_make_no_difference():
    rng = np.random.default_rng(5)
    first, second = arm(rng.random((2, 30))), arm(rng.random((3, 30)))
    result = difference(first, second, "m", resamples=100, seed=3)
    with mock.patch.object(bootstrap, "_COUNTS_HELD", 200):
        assert difference(first, second, "m", resamples=100, seed=3) == result
    assert difference(first, second, "m", resamples=100, seed=4) != result


def test_resamples_in_which_a_metric_is_undefined_are_left_out():
    # Only the first of two images has labeled pixels: a resample without it has no accuracy.
    none, some = np.zeros((2, 1), int), np.array([[4], [0]])
    run = {0: PerImage(np.arange(2), (Pixels(some, some, some),))}
    result = interval(run, "pixel_accuracy", resamples=50)
    assert (result.value, result.low, result.high) == (1, 1, 1)
    nothing = interval(
        {0: PerImage(np.arange(2), (Pixels(none, none, none),))}, "pixel_accuracy", resamples=50
    )
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)


def test_what_cannot_be_compared_is_said():
    one = arm(np.zeros((1, 4)))
    for first, second, metric, problem in (
        (one, arm(np.zeros((1, 4)), seeds=[7], ids=[0, 1, 2, 9]), "m", "seed 0 on 4, seed 7 on 4, 3 of them"),
        (one, arm(np.zeros((1, 3))), "m", "different images"),
        (one, one, "AP", "AP of seed 0 .* there are: m"),
        (one, {}, "m", "without a run"),
        (arm(np.zeros((1, 0))), arm(np.zeros((1, 0))), "m", "no image"),
    ):
        with pytest.raises(UserError, match=problem):
            difference(first, second, metric, resamples=10)
