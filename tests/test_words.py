"""The field's words: names and prose use its standard terms, and words of our own do not come back."""

import ast
import io
import re
import subprocess
import tokenize
from functools import cache
from pathlib import Path

import pytest

from tests.paths import REPOSITORY

# A reader would have to learn these; the literature says what stands beside them.
PHRASES = {
    r"judg(e|ed|es|ing|ement)s?": "evaluate, evaluation, match; a claim is decided",
    r"(the )?way up": "decoder, upsampling",
    r"by heart": "overfit",
    r"settl(e|ed|es|ing)": "resolve",
    r"fillings?": "padding examples",
    r"(a|the|on) (lying|standing)( canvas)?|lying (on|canvas)": "landscape, portrait",
    r"sees far|dear(er|est)?": "receptive field; expensive",
    r"the same bits": "bit-identical",
    r"(?<!non-maximum )suppressi(on|ons)": "NMS",
    r"colou?red in|colours?|greys?": "color, gray",
}
# Whole parts of a name, between underscores and capitals.
PARTS = {
    "judge|judges|judged|judging|judgement": "evaluate, match",
    "colour|colours|coloured|grey|greys": "color, gray",
    "photograph|photographs": "image",
    "draw|draws|drawn": "sample (random numbers), plot (pictures)",
    "place|places": "location, position",
    "share|shares": "shard (of a device), fraction",
    "settle|settles|settled": "resolve",
    "suppress|suppressed|suppression": "nms",
    r"\w*(normal|initial|minim|maxim|optim|recogn|synchron|local)is(e|es|ed|er|ing|ation)": "-ize, -ization",
}
# Whole names.
FORMER = {
    "roi_iou": "fg_iou_threshold",
    "roi_samples": "rois_per_image",
    "roi_positives": "positive_fraction",
    "agnostic": "class_agnostic",
    "mask_agnostic": "class_agnostic_masks",
}
# Names that are not ours to choose.
THEIRS = {"draw", "localisation"}  # Hypothesis' argument; a module that checkpoints' parameters are named by


@cache
def files(*patterns: str) -> list[Path]:
    listed = subprocess.check_output(["git", "ls-files", "-z", *patterns], cwd=REPOSITORY, text=True)
    return [REPOSITORY / name for name in listed.split("\0") if name and name != "tests/test_words.py"]


@cache
def prose(path: Path) -> list[tuple[int, str]]:
    """Comments and strings of a Python file, and all lines of another, with their line numbers."""
    text = path.read_text()
    if path.suffix != ".py":
        return list(enumerate(text.splitlines(), 1))
    lines = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            lines += [(token.start[0] + i, line) for i, line in enumerate(token.string.splitlines())]
    return lines


@cache
def names(path: Path) -> list[tuple[int, str]]:
    """Names that a Python file defines: of classes, functions, arguments, fields and variables."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            if not node.name.startswith("test_"):  # a sentence
                found.append((node.lineno, node.name))
        elif isinstance(node, ast.arg):
            found.append((node.lineno, node.arg))
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.append((node.lineno, node.id if isinstance(node, ast.Name) else node.attr))
    return found


def parts(name: str) -> list[str]:
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


@pytest.mark.parametrize("phrase", PHRASES)
def test_prose_says_it_in_the_fields_words(phrase):
    pattern = re.compile(rf"\b(?:{phrase})\b", re.IGNORECASE)
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in files(
            "vision_jax/*.py", "experiments/*.py", "tests/*.py", "*.md", "*.cff", "pyproject.toml"
        )
        for number, line in prose(path)
        if pattern.search(line)
    ]
    assert not found, f"say {PHRASES[phrase]}:\n" + "\n".join(found)


@pytest.mark.parametrize("part", PARTS)
def test_names_are_in_the_fields_words(part):
    pattern = re.compile(rf"(?:{part})")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {name}"
        for path in files("vision_jax/*.py", "experiments/*.py", "tests/*.py")
        for number, name in names(path)
        if name not in THEIRS and any(pattern.fullmatch(each) for each in parts(name))
    ]
    assert not found, f"say {PARTS[part]}:\n" + "\n".join(found)


def test_former_names_do_not_come_back():
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {name}, now {FORMER[name]}"
        for path in files("vision_jax/*.py", "experiments/*.py", "tests/*.py")
        for number, name in names(path)
        if name in FORMER
    ]
    assert not found, "\n".join(found)


def test_no_two_classes_share_a_name():
    where: dict[str, list[str]] = {}
    for path in files("vision_jax/*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}
