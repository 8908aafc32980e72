"""Where things lie beside the tests."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
EXPERIMENTS = REPOSITORY / "experiments"
SHARED = REPOSITORY.parent / "shared"  # real data and weights, where a machine has them
