"""Whether claims hold as measured: a bootstrap over test images and seeds together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vision_jax.evaluation.bootstrap import Difference, Interval, difference, interval
from vision_jax.evaluation.per_image.file import PerImage, read_per_image
from vision_jax.sweeps.claims import Claim, PaperFigures, fits
from vision_jax.sweeps.outcomes import Arm
from vision_jax.types import UserError

LEVEL = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Verdict:
    """A claim, for one pair of arms.

    Attributes:
        claim: which.
        worse: the arm that should have less.
        better: the one that should have more.
        measured: the difference, better - worse, with its interval; or why there is none.
    """

    claim: Claim
    worse: Arm
    better: Arm
    measured: Difference | str

    @property
    def pair(self) -> str:
        """Both arms, with what they share."""
        changed = {n for n in self.better.values if self.better.values[n] != self.worse.values.get(n)}
        named = [
            ", ".join(f"{n}={a.values[n]}" for n in a.values if n in changed)
            for a in (self.worse, self.better)
        ]
        shared = ", ".join(
            f"{n}={self.better.values[n]}"
            for n in self.better.named
            if n not in changed and n in self.better.values
        )
        return f"{named[0]} → {named[1]}" + (f" ({shared})" if shared else "")

    @property
    def plain(self) -> float:
        """The difference of the means over seeds."""
        return self.better.mean(self.claim.metric) - self.worse.mean(self.claim.metric)

    @property
    def figures(self) -> str:
        if isinstance(self.measured, str):
            return f"{self.plain:+.4f}"
        return f"{self.measured.value:+.4f} [{self.measured.low:+.4f}, {self.measured.high:+.4f}]"

    @property
    def word(self) -> str:
        """`reproduced`, `not reproduced: the opposite`, `within noise`, or why it is undecided."""
        if isinstance(self.measured, str):
            return f"undecided: {self.measured}"
        low, high = self.measured.low, self.measured.high
        if math.isnan(low) or math.isnan(high):
            return "undecided: the metric is undefined"
        if self.claim.lower:
            low, high = -high, -low
        return "reproduced" if low > 0 else "not reproduced: the opposite" if high < 0 else "within noise"

    def paper(self, figures: Sequence[PaperFigures]) -> str:
        """The paper's difference between the two arms; empty where it gives none."""
        metric = self.claim.metric
        values = [
            next(
                (f.metrics[metric] for f in figures if metric in f.metrics and fits(f.where, arm.values)),
                None,
            )
            for arm in (self.worse, self.better)
        ]
        return "" if values[0] is None or values[1] is None else f"{values[1] - values[0]:+.3f}"


def decide_claims(folded: Sequence[Arm], claims: Sequence[Claim]) -> list[Verdict]:
    """Decides each claim for each pair of arms that it is about.

    Args:
        folded: arms of the sweep.
        claims: of the experiment file.

    Returns:
        The verdicts; none for a claim that fits no two arms that are done and have its metric.
    """
    kept: dict[str, Mapping[int, PerImage] | None] = {}

    def of_images(arm: Arm) -> Mapping[int, PerImage] | None:
        key = repr(arm.values)
        if key not in kept:
            kept[key] = _of_images(arm)
        return kept[key]

    def compared(worse: Arm, better: Arm, metric: str) -> Difference | str:
        try:
            first, second = of_images(worse), of_images(better)
            if first and second and all(metric in p.names for p in (*first.values(), *second.values())):
                return difference(first, second, metric, resamples=RESAMPLES, level=LEVEL)
        except UserError as error:  # a damaged file, other test images: the rest of the report stands
            return str(error)
        return "the trials kept no metrics by image"

    verdicts = []
    for claim in claims:
        for worse, better in _pairs(folded, claim):
            if not (worse.of(claim.metric) and better.of(claim.metric)):
                continue
            verdicts.append(Verdict(claim, worse, better, compared(worse, better, claim.metric)))
    return verdicts


def arm_interval(arm: Arm, metric: str) -> Interval | None:
    """An arm's metric and interval, resampled as for claims; None where no trial kept it by image."""
    try:
        images = _of_images(arm)
        if images and all(metric in each.names for each in images.values()):
            return interval(images, metric, resamples=RESAMPLES, level=LEVEL)
    except UserError:  # a damaged file: the mean stands without an interval
        pass
    return None


def _of_images(arm: Arm) -> Mapping[int, PerImage] | None:
    """What each test image contributed, by seed; None where a trial kept nothing of them."""
    read = {seed: read_per_image(outcome.evaluation_folder) for seed, outcome in arm.outcomes.items()}
    known = {seed: images for seed, images in read.items() if images is not None}
    return known if len(known) == len(read) else None


def _pairs(folded: Sequence[Arm], claim: Claim) -> list[tuple[Arm, Arm]]:
    """The pairs that differ as the claim says and in nothing else."""
    about = {*claim.worse, *claim.better}

    def rest(arm: Arm) -> dict[str, Any]:
        return {name: value for name, value in arm.values.items() if name not in about}

    return [
        (worse, better)
        for worse in folded
        if fits({**claim.where, **claim.worse}, worse.values)
        for better in folded
        if fits({**claim.where, **claim.better}, better.values) and rest(worse) == rest(better)
    ]


def how_decided(verdicts: Sequence[Verdict]) -> str:
    """The test, in words, with its numbers."""
    measured = [v.measured for v in verdicts if not isinstance(v.measured, str)]
    if not measured:
        return "Differences of means."
    images = "/".join(map(str, sorted({m.images for m in measured})))
    counts = {n for m in measured for n in m.seeds}
    seeds = "/".join(map(str, sorted(counts)))
    pairing = ", seeds in pairs" if all(m.paired for m in measured) else ""
    text = (
        f"Difference of means over seeds, and its {LEVEL:.0%} interval: the percentiles of {RESAMPLES:,} "
        f"resamples, with replacement, of the {images} test images and of the {seeds} seeds together (the "
        f"same images for both arms{pairing}). Reproduced: the interval lies on the claim's side of 0; "
        "within noise: it holds 0."
    )
    if 1 in counts:
        return f"{text} One seed says nothing of training's luck: the interval is that of the images alone."
    if min(counts) < 5:
        return f"{text} With so few seeds it is too narrow: n seeds show (n - 1) / n of their variance."
    return text
