"""What the guides to training, weights, sweeps and memory show runs."""

import pytest

from tests.docs.pages import TRAINING_GUIDES
from tests.docs.running import run_page


@pytest.mark.slow
@pytest.mark.parametrize("page", TRAINING_GUIDES, ids=lambda page: page.name)
def test_what_it_shows_runs(page, world, capsys):
    run_page(page, capsys)
