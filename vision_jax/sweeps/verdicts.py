"""Whether what a claim says was measured: a bootstrap over test images and seeds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vision_jax.evaluation.bootstrap import Difference, difference
from vision_jax.evaluation.per_image import PerImage, read_per_image
from vision_jax.sweeps.claims import Claim, PaperFigures, fits
from vision_jax.sweeps.outcomes import Arm

LEVEL = 0.95
DRAWS = 1000


@dataclass(frozen=True)
class Verdict:
    """A claim, for one pair of arms.

    Attributes:
        claim: which.
        worse: the arm that should have less.
        better: the one that should have more.
        measured: the difference, better - worse, with its interval; None where the trials kept nothing of
            single images for this metric.
    """

    claim: Claim
    worse: Arm
    better: Arm
    measured: Difference | None

    @property
    def pair(self) -> str:
        """Both arms, with what they share."""
        changed = {n for n in self.better.values if self.better.values[n] != self.worse.values.get(n)}
        named = [
            ", ".join(f"{n}={a.values[n]}" for n in a.values if n in changed)
            for a in (self.worse, self.better)
        ]
        shared = ", ".join(f"{n}={self.better.values[n]}" for n in self.better.named if n not in changed)
        return f"{named[0]} → {named[1]}" + (f" ({shared})" if shared else "")

    @property
    def plain(self) -> float:
        """The difference of the means over seeds."""
        return self.better.mean(self.claim.metric) - self.worse.mean(self.claim.metric)

    @property
    def figures(self) -> str:
        if self.measured is None:
            return f"{self.plain:+.4f}"
        return f"{self.measured.value:+.4f} [{self.measured.low:+.4f}, {self.measured.high:+.4f}]"

    @property
    def word(self) -> str:
        """`reproduced`, `the opposite`, or `within noise`."""
        if self.measured is None:
            return "not judged: the trials kept nothing of single images"
        low, high = self.measured.low, self.measured.high
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


def judge(folded: Sequence[Arm], claims: Sequence[Claim]) -> list[Verdict]:
    """Judges each claim on each pair of arms that it is about.

    Args:
        folded: arms of the sweep.
        claims: of the experiment file.

    Returns:
        The verdicts; none for a claim whose arms are not both done, or have no such metric.
    """
    kept: dict[str, Mapping[int, PerImage] | None] = {}

    def of_images(arm: Arm) -> Mapping[int, PerImage] | None:
        if arm.label not in kept:
            read = {seed: read_per_image(outcome.judged) for seed, outcome in arm.outcomes.items()}
            kept[arm.label] = None if None in read.values() else read  # type: ignore[assignment]
        return kept[arm.label]

    verdicts = []
    for claim in claims:
        for worse, better in _pairs(folded, claim):
            if not (worse.of(claim.metric) and better.of(claim.metric)):
                continue
            first, second = of_images(worse), of_images(better)
            measured = None
            if first and second and all(claim.metric in p.names for p in (*first.values(), *second.values())):
                measured = difference(first, second, claim.metric, draws=DRAWS, level=LEVEL)
            verdicts.append(Verdict(claim, worse, better, measured))
    return verdicts


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


def how_judged(verdicts: Sequence[Verdict]) -> str:
    """The test, in words, with its numbers."""
    measured = [v.measured for v in verdicts if v.measured is not None]
    if not measured:
        return "Differences of means."
    images = "/".join(map(str, sorted({m.images for m in measured})))
    counts = {n for m in measured for n in m.seeds}
    seeds = "/".join(map(str, sorted(counts)))
    pairing = ", seeds in pairs" if all(m.paired for m in measured) else ""
    text = (
        f"Difference of means over seeds, and its {LEVEL:.0%} interval: the percentiles of {DRAWS:,} draws, "
        f"with replacement, of the {images} test images and of the {seeds} seeds together (the same images "
        f"for both arms{pairing}). Reproduced: the interval lies on the claim's side of 0; within noise: it "
        "holds 0."
    )
    if 1 in counts:
        return f"{text} One seed says nothing of training's luck: the interval is that of the images alone."
    if min(counts) < 5:
        return f"{text} With so few seeds it is too narrow: n seeds show (n - 1) / n of their variance."
    return text
