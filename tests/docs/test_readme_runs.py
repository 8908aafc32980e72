"""What README shows runs, and its system in one file learns."""

import json
from pathlib import Path

import pytest

from tests.docs.pages import GUIDES
from tests.docs.running import run_page


@pytest.mark.slow
def test_what_it_shows_runs(world, capsys):
    run_page(GUIDES[0], capsys)
    report = json.loads(Path("runs/softmax/results.json").read_text())
    assert report["default"]["accuracy"] > 0.6  # by chance: 0.1
