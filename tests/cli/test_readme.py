"""The README says what is so: its example trains, its files are there, its commands are commands."""

import json
import re

import pytest

from tests.paths import EXPERIMENTS, REPOSITORY
from vision_jax.cli import COMMANDS, main

PAGES = [REPOSITORY / "README.md", *sorted(EXPERIMENTS.glob("**/*.md"))]
README = (REPOSITORY / "README.md").read_text()


@pytest.mark.slow
def test_the_system_in_one_file_learns_and_predicts(tmp_path):
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def experiment(" in block
    )
    file = tmp_path / "softmax.py"
    file.write_text(code)
    run = tmp_path / "run"
    assert main(["train", str(file), "--train.steps", "60", "--devices", "1", "--out", str(run)]) == 0
    assert json.loads((run / "results.json").read_text())["default"]["accuracy"] > 0.6  # by chance: 0.1
    assert json.loads((run / "experiment.json").read_text())["arguments"]["canvas"] == [8, 8]


def test_every_file_that_it_names_is_there():
    named = set(re.findall(r"(?:experiments|vision_jax)/[\w/.]*\w", README))
    assert "experiments/instance/roi_align_vs_roi_pool" in named
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_every_command_that_it_shows_is_one():
    shown = set(re.findall(r"uv run vision-jax ([\w-]+)", README))
    assert shown == set(COMMANDS)


@pytest.mark.parametrize(
    "module",
    ["vision_jax", "vision_jax.layers", "vision_jax.recipes", "vision_jax.tasks", "vision_jax.types"],
)
def test_names_that_it_imports_exist(module):
    imported = re.findall(rf"^from {re.escape(module)} import (.+)$", README, re.MULTILINE)
    names = [name.strip() for line in imported for name in line.split(",")]
    package = __import__(module, fromlist=names)
    assert names
    assert all(hasattr(package, name) for name in names)
