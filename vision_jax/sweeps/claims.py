"""What an experiment file states of its sweep beside SWEEP: the paper's figures, and the claims.

    METRICS = ("mask/AP", "mask/AP75", "AP")
    PAPER = [PaperFigures("He et al. 2017, table 2c", {"roi": "pool"}, {"mask/AP": 0.236})]
    CLAIMS = [Claim("RoIAlign finds better masks than RoIPool", "mask/AP", {"roi": "pool"}, {"roi": "align"})]

All three may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision_jax.sweeps.points import Point
from vision_jax.types import UserError


@dataclass(frozen=True)
class PaperFigures:
    """What a publication reports of an arm.

    Attributes:
        source: authors, year, table.
        where: the arm's arguments, as a point has them; an arm that has them and others fits too. The key
            "evaluation" is the name of one.
        metrics: by our names and on our scale (0.236, not 23.6).
    """

    source: str
    where: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Claim:
    """One arm is better than another in a metric.

    Attributes:
        text: in words.
        metric: higher is better, unless `lower`.
        worse: the arguments of the arm that should have less.
        better: those of the arm that should have more.
        where: arguments that both arms share; decided for each pair of arms that is equal otherwise.
        lower: whether a lower value is the better one.
    """

    text: str
    metric: str
    worse: Mapping[str, Any]
    better: Mapping[str, Any]
    where: Mapping[str, Any] = field(default_factory=dict)
    lower: bool = False


@dataclass(frozen=True)
class Study:
    """An experiment file's sweep.

    Attributes:
        points: that it consists of.
        metrics: columns of the table, first the one that figures show; the task's own metric if empty.
        paper: figures to print beside ours.
        claims: to be decided.
        columns: an argument for each of whose values a table has a column, as the paper's has; none if empty.
    """

    points: Sequence[Point]
    metrics: tuple[str, ...] = ()
    paper: tuple[PaperFigures, ...] = ()
    claims: tuple[Claim, ...] = ()
    columns: str = ""


def fits(where: Mapping[str, Any], arm: Mapping[str, Any]) -> bool:
    """Whether an arm has all of some arguments' values."""
    return all(name in arm and _same(arm[name], value) for name, value in where.items())


def _same(a: Any, b: Any) -> bool:
    """Equal, where a record has lists for tuples."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def check_statements(values: Any, kind: type, name: str, where: str) -> tuple[Any, ...]:
    """METRICS, PAPER or CLAIMS of an experiment file.

    Args:
        values: what the file has.
        kind: of which they are.
        name: of the list, for messages.
        where: the file, for messages.

    Raises:
        UserError: not a list of that kind.
    """
    if isinstance(values, str) or not all(isinstance(value, kind) for value in values):
        raise UserError(f"{where}: {name} is a list of {kind.__name__}")
    return tuple(values)
