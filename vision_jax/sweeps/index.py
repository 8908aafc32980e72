"""One page of all verdicts, made from the result pages below a folder of experiments.

A result page is `TOPIC/NAME/result.md`: a title, text, and the tables that `vision-jax report` writes. Of
these the index takes those with the columns "claim" and "as measured".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from vision_jax.evaluation.tables import markdown_table
from vision_jax.training.origin import CLAIM
from vision_jax.types import UserError

RESULT = "result.md"
INDEX = "index.md"


def index_page(experiments: Path) -> str:
    """The page: for each topic its experiments, and every claim with what was measured.

    Args:
        experiments: a folder of `TOPIC/NAME/result.md`.

    Returns:
        Markdown, with links relative to the folder.

    Raises:
        UserError: there is no result page.
    """
    pages = sorted(experiments.glob(f"*/*/{RESULT}"))
    if not pages:
        raise UserError(f"{experiments} holds no result: none of {experiments}/TOPIC/NAME/{RESULT}")
    topics: dict[str, list[Path]] = {}
    for page in pages:
        topics.setdefault(page.parent.parent.name, []).append(page)
    counts: Counter[str] = Counter()
    body = []
    for topic, of_topic in topics.items():
        body += [f"## {topic.replace('_', ' ').capitalize()}", ""]
        for page in of_topic:
            link = page.relative_to(experiments).as_posix()
            body += [f"[{_title(page)}]({link}){_command(page.parent)}", ""]
            rows = list(verdicts_of(page))
            counts.update(row["as measured"].partition(":")[0] for row in rows)
            if rows:
                heads = ["claim", "arms", "metric", "difference", "paper's", "as measured"]
                known = [head for head in heads if any(row.get(head) for row in rows)]
                body += [markdown_table(known, [[row.get(head, "") for head in known] for row in rows]), ""]
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    head = [
        "# What was measured",
        "",
        f"The verdicts on all claims of these experiments: {summary}. Made from the results' pages by "
        f"`vision-jax report --index {experiments.name}`.",
        "",
    ]
    return "\n".join([*head, *body]).rstrip() + "\n"


def _title(page: Path) -> str:
    first = page.read_text().partition("\n")[0]
    return first.removeprefix("# ").strip() if first.startswith("# ") else page.parent.name


def _command(folder: Path) -> str:
    """What repeats it: the claim's sweep, or a script beside the page."""
    path = f"{folder.parent.parent.name}/{folder.parent.name}/{folder.name}"
    if (folder / CLAIM).is_file():
        return f": `vision-jax sweep {path}`"
    scripts = sorted(folder.glob("*.py"))
    return f": `python {path}/{scripts[0].name}`" if scripts else ""


def verdicts_of(page: Path) -> Iterator[Mapping[str, str]]:
    """The rows of every table of a result page that has the columns "claim" and "as measured", by column."""
    heads: list[str] | None = None
    for line in page.read_text().splitlines():
        if not line.startswith("|"):
            heads = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if heads is None:
            heads = cells
        elif "claim" in heads and "as measured" in heads and not re.fullmatch(r"[\s|:-]+", line):
            yield dict(zip(heads, cells, strict=False))
