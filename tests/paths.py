"""Where things lie beside the tests."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
EXPERIMENTS = REPOSITORY / "experiments"
CLAIMS = {file.parent.name: file.parent for file in sorted(EXPERIMENTS.glob("*/*/claim.py"))}
STUDIES = {file.parent.name: file for file in sorted(EXPERIMENTS.glob("*/*/study.py"))}  # scripts, no claims
SHARED = REPOSITORY.parent / "shared"  # real data and weights, where a machine has them
