"""What CONTRIBUTING and the guides to data and tools show runs."""

import pytest

from tests.docs.pages import OTHER_GUIDES
from tests.docs.running import run_page


@pytest.mark.slow
@pytest.mark.parametrize("page", OTHER_GUIDES, ids=lambda page: page.name)
def test_what_it_shows_runs(page, world, capsys):
    run_page(page, capsys)
