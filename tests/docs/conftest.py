"""The folder in which the commands of a page are run."""

import contextlib

import pytest

from tests.docs.world import make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    with contextlib.chdir(root):
        make_world(root)
        yield root
