"""What CONTRIBUTING and the guides show runs."""

import pytest

from tests.docs.pages import GUIDES
from tests.docs.running import run_page


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES[1:], ids=lambda page: page.name)
def test_what_it_shows_runs(page, world, capsys):
    run_page(page, capsys)
