"""What two runs of one experiment have in common."""

import csv
from pathlib import Path

import jax

from vision_jax.training import load_variables


def rows(run):
    """metrics.csv without its times."""
    with (Path(run) / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def assert_same_variables(a, b):
    """The newest checkpoints of two runs are equal to the bit."""
    x, y = load_variables(a), load_variables(b)
    assert jax.tree.structure(x) == jax.tree.structure(y)
    for p, q in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
        assert p.tobytes() == q.tobytes()


def assert_same_run(a, b):
    """Metrics and variables of two runs are equal to the bit."""
    assert rows(a) == rows(b)
    assert_same_variables(a, b)
