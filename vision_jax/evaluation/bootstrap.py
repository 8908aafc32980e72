"""How far a metric, or the difference of two arms, may be due to the test images and to training's luck.

A percentile bootstrap (Efron and Tibshirani 1993, chapter 13). Every trained network of an arm is tested on
the same images, so seeds and images are crossed factors, and both are resampled, each on its own: the
pigeonhole bootstrap (Owen 2007). It errs on the wide side in the part of the variance that is
particular to an image and a seed, and on the narrow side where seeds are few: S seeds show only (S - 1) / S
of their variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vision_jax.evaluation.per_image.file import PerImage
from vision_jax.types import UserError

# Counts of images by resample that are held in memory at once.
_COUNTS_HELD = 2**22


@dataclass(frozen=True)
class Interval:
    """A metric of one arm, the mean over its seeds.

    Attributes:
        value: on all test images.
        low: the lower end of the percentile interval.
        high: its upper end.
        images: how many test images there are.
        seeds: how many trainings.
    """

    value: float
    low: float
    high: float
    images: int
    seeds: int


@dataclass(frozen=True)
class Difference:
    """The second arm's metric less the first's, each the mean over its seeds.

    Attributes:
        value: on all test images.
        low: the lower end of the percentile interval.
        high: its upper end.
        images: how many test images there are.
        seeds: how many trainings of the first arm and of the second.
        paired: whether both arms ran the same seeds, so that these were resampled together.
    """

    value: float
    low: float
    high: float
    images: int
    seeds: tuple[int, int]
    paired: bool


def difference(
    first: Mapping[int, PerImage],
    second: Mapping[int, PerImage],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Compares two arms on the same test images.

    Each resample takes as many images as there are, with replacement, the same for all networks of both
    arms; and as many seeds as an arm has, with replacement, the same for both arms if they ran the same. With
    one seed each, only the images are resampled: the interval then says nothing about training's luck.

    Args:
        first: what each test image contributed, by training seed.
        second: the same of the other arm.
        metric: the metric's name.
        resamples: how many.
        seed: of the resampling; equal seeds resample the same images, for the same number of images.
        level: the fraction of the resamples' differences in the interval, 0..1.

    Returns:
        The difference and its percentile interval, over the resamples in which it is defined; NaN if none is.

    Raises:
        UserError: the arms were tested on different images, or some without this metric.
    """
    paired = set(first) == set(second)
    (value1, of_first), (value2, of_second) = _resampled([first, second], metric, resamples, seed, paired)
    low, high = _percentiles(of_second - of_first, level)
    images = len(next(iter(first.values())).ids)
    return Difference(value2 - value1, low, high, images, (len(first), len(second)), paired)


def interval(
    arm: Mapping[int, PerImage], metric: str, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """A metric of one arm with its percentile interval.

    Resamples as `difference` does; with one seed, only the images are resampled.

    Args:
        arm: what each test image contributed, by training seed.
        metric: the metric's name.
        resamples: how many.
        seed: of the resampling.
        level: the fraction of the resamples' values in the interval, 0..1.

    Returns:
        The mean over seeds and its interval, over the resamples in which it is defined; NaN if none is.

    Raises:
        UserError: the seeds were tested on different images, or some without this metric.
    """
    ((value, resampled),) = _resampled([arm], metric, resamples, seed, paired=True)
    low, high = _percentiles(resampled, level)
    return Interval(value, low, high, len(next(iter(arm.values())).ids), len(arm))


def _resampled(
    arms: list[Mapping[int, PerImage]], metric: str, resamples: int, seed: int, paired: bool
) -> list[tuple[float, Float[np.ndarray, " resamples"]]]:
    """Each arm's metric, the mean over its seeds, on all images and in each resample (float64)."""
    ids = _common_ids(arms, metric)
    image_random, *seed_random = (np.random.default_rng([seed, i]) for i in range(1 + len(arms)))
    if paired:
        seed_random = [np.random.default_rng([seed, 1]) for _ in arms]
    values = [np.empty((resamples, len(arm))) for arm in arms]
    plain = [[_metric(run, np.ones((1, len(ids)), int), metric)[0] for _, run in _runs(arm)] for arm in arms]
    step = max(1, _COUNTS_HELD // len(ids))
    for start in range(0, resamples, step):
        weights = _resample_counts(image_random, min(step, resamples - start), len(ids))
        for arm, of_arm in zip(arms, values, strict=True):
            for column, (_, run) in enumerate(_runs(arm)):
                of_arm[start : start + step, column] = _metric(run, weights, metric)
    resampled = []
    for random, of_arm in zip(seed_random, values, strict=True):
        times = _resample_counts(random, resamples, of_arm.shape[1])
        # A network that is not in a resample may be undefined.
        resampled.append(np.where(times > 0, times * of_arm, 0).sum(axis=1) / of_arm.shape[1])
    return [(float(np.mean(each)), some) for each, some in zip(plain, resampled, strict=True)]


def _runs(arm: Mapping[int, PerImage]) -> list[tuple[int, PerImage]]:
    """By rising seed, so that the same seed of two arms has the same position."""
    return sorted(arm.items())


def _resample_counts(
    random: np.random.Generator, resamples: int, n: int
) -> Int[np.ndarray, "{resamples} {n}"]:
    """How often each of n things is among n samples with replacement; every row sums to n."""
    taken = random.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(taken.ravel(), minlength=resamples * n).reshape(resamples, n)


def _metric(
    run: PerImage, weights: Int[np.ndarray, "resamples n"], metric: str
) -> Float[np.ndarray, " resamples"]:
    """The metric of resamples, whose weights are in ascending order of the images' ids."""
    mine = np.empty_like(weights)
    mine[:, np.argsort(run.ids, kind="stable")] = weights
    return run.metrics(mine, [metric])[metric]


def _common_ids(arms: list[Mapping[int, PerImage]], metric: str) -> Int[np.ndarray, " n"]:
    """The ids, ascending, of the images on which all were tested.

    Raises:
        UserError: as `difference`.
    """
    runs = [(seed, run) for arm in arms for seed, run in _runs(arm)]
    if not all(arms):
        raise UserError("an arm without a run cannot be compared")
    for seed, run in runs:
        if metric not in run.names:
            raise UserError(
                f"{metric} of seed {seed} is not kept by image; there are: {', '.join(run.names)}"
            )
    ids = np.sort(runs[0][1].ids)
    for seed, run in runs:
        if not np.array_equal(np.sort(run.ids), ids):
            shared = len(np.intersect1d(run.ids, ids))
            raise UserError(
                f"runs were tested on different images: seed {runs[0][0]} on {len(ids)}, seed {seed} on "
                f"{len(run.ids)}, {shared} of them the same; evaluate all on the same split"
            )
    if not len(ids):
        raise UserError("runs that were tested on no image cannot be compared")
    return ids


def _percentiles(values: Float[np.ndarray, " n"], level: float) -> tuple[float, float]:
    """The ends of the interval that holds the middle `level` (0..1) of the values; NaN ones are left out."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
