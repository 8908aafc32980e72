"""What README, CONTRIBUTING and the guides show to be run, in the order in which it stands."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.paths import REPOSITORY

GUIDES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
# Tested in two files, as their commands take minutes.
TRAINING_GUIDES = [page for page in GUIDES if page.stem in ("training", "weights", "sweeps", "memory")]
OTHER_GUIDES = [page for page in GUIDES[1:] if page not in TRAINING_GUIDES]


@dataclass(frozen=True)
class Shown:
    """Something that a page shows to be run.

    Attributes:
        language: bash or python.
        text: one command, without its comment and on one line; or a block of Python.
        file: the file that the text before a block of Python says to save it as; "" for one to be run.
    """

    language: str
    text: str
    file: str = ""


def shown(page: Path) -> list[Shown]:
    """Each command, and each block of Python, of a page."""
    text, found = page.read_text(), []
    for block in re.finditer(r"^```(bash|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        language, content = block.groups()
        if language == "bash":
            lines = content.replace("\\\n", " ").splitlines()
            commands = [re.sub(r"\s+# .*", "", line).strip() for line in lines]
            found += [Shown("bash", re.sub(r" +", " ", command)) for command in commands if command]
        else:
            named = re.search(r"[Ss]ave this as\s+`([\w/]+\.py)`:\s*$", text[: block.start()])
            found.append(Shown("python", content, named[1] if named else ""))
    return found
