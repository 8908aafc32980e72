"""README, CONTRIBUTING, CHANGELOG and the guides say what is so: links, files, commands, names, the table."""

import importlib
import re
import runpy
import subprocess
import tomllib

import pytest

from tests.docs.pages import GUIDES, shown
from tests.paths import EXPERIMENTS, REPOSITORY
from vision_jax.cli import COMMANDS
from vision_jax.recipes import recipe_names
from vision_jax.sweeps.index import verdicts_of

PAGES = [*GUIDES, REPOSITORY / "CHANGELOG.md", *sorted(EXPERIMENTS.glob("**/*.md"))]
FILMS = {"rotation.gif", "training.gif"}
EXAMPLE = "softmax_regression"  # what CONTRIBUTING's reader writes
tools = runpy.run_path(str(REPOSITORY / "docs/systems.py"))


def name_of(page):
    return page.relative_to(REPOSITORY).as_posix()


def test_the_readme_is_read_in_two_minutes():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_anchor_is_a_heading(page):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        text = ((page.parent / link) if link else page).read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_file_that_it_names_is_there(page):
    named = set(re.findall(r"\b(?:experiments|vision_jax|tests|docs)/[\w/.]*\w", page.read_text()))
    missing = [name for name in sorted(named) if not (REPOSITORY / name).exists()]
    assert [name for name in missing if EXAMPLE not in name and "CLAIM" not in name] == []


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_commands_stand_in_blocks_that_are_run(page):
    outside = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^ +(?:uv run |vision-jax ).*$", outside, re.MULTILINE) == []


def test_every_command_is_shown():
    commands = [each.text for page in GUIDES for each in shown(page) if each.language == "bash"]
    found = {name for text in commands for name in re.findall(r"vision-jax ([\w-]+)", text)}
    assert found == set(COMMANDS)


def test_names_that_blocks_import_exist():
    blocks = [each.text for page in GUIDES for each in shown(page) if each.language == "python"]
    imports = re.findall(r"^from (vision_jax[\w.]*) import (.+)$", "\n".join(blocks), re.MULTILINE)
    assert len(imports) > 5
    for module, names in imports:
        package = importlib.import_module(module)
        for name in names.split(", "):
            assert hasattr(package, name), f"{module}.{name}"


def test_the_table_of_systems_is_made_from_the_repository():
    made = tools["readme_with"](tools["systems_table"]())
    assert made == (REPOSITORY / "README.md").read_text(), "make it anew: uv run python docs/systems.py"


def test_the_table_has_every_recipe_claim_and_network():
    systems = tools["SYSTEMS"]
    assert {row.recipe.split()[0] for row in systems} == set(recipe_names())
    decided = {
        page.parent.relative_to(EXPERIMENTS).as_posix()
        for page in EXPERIMENTS.glob("*/*/result.md")
        if list(verdicts_of(page))
    }
    assert decided <= {name for row in systems for name in row.experiments}
    modules = {row.module for row in systems}
    backbones = {f"backbones/{file.stem}" for file in (REPOSITORY / "vision_jax/backbones").glob("[!_]*.py")}
    assert backbones <= modules


def test_parity_is_tested_where_the_table_says_so():
    for row in tools["SYSTEMS"]:
        if row.parity:
            text = (REPOSITORY / f"tests/{row.parity}.py").read_text()
            assert "pytestmark = pytest.mark.peers" in text
            assert "torch" in text


def test_papers_are_read_from_docstrings():
    table = tools["systems_table"]()
    assert "| Ren et al. 2015; Lin et al. 2017 |" in table
    assert "| Long, Shelhamer and Darrell 2015 |" in table
    assert "| Sandler et al. 2018; Howard et al. 2019 |" in table


def test_verdicts_add_up_to_those_of_the_index():
    (total,) = re.findall(r"^Of all claims: (.*)\.$", tools["systems_table"](), re.MULTILINE)
    assert f": {total}." in (EXPERIMENTS / "index.md").read_text()


def test_pictures_are_small():
    listed = subprocess.check_output(["git", "ls-files"], cwd=REPOSITORY, text=True).splitlines()
    pictures = [REPOSITORY / name for name in listed if name.endswith((".png", ".jpg", ".gif"))]
    assert pictures
    large = {path.name for path in pictures if path.exists() and path.stat().st_size > 300_000}
    assert large <= FILMS


def test_the_citation_has_what_its_format_needs():
    lines = (REPOSITORY / "CITATION.cff").read_text().splitlines()
    fields = dict(line.split(": ", 1) for line in lines if re.match(r"[a-z-]+: ", line))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert fields["cff-version"] == "1.2.0"
    assert fields["title"] == project["name"]
    assert fields["version"] == project["version"]
    assert fields["license"] == project["license"]
    assert fields["message"]
    assert "authors:" in lines
