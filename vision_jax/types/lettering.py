"""How the names of classes are written: on one line, and in letters that a font on this machine has.

Names come from other people's files: in any script, with line breaks, tabs and marks. Charts and pictures are
written in DejaVu Sans, which matplotlib includes; letters that it lacks come from a font of this machine
that has them. Where none has, a letter is written as its code point (U+4E2D), and one warning says so.
"""

from __future__ import annotations

import logging
import unicodedata
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ELLIPSIS = "\u2026"
# Categories of characters that take no column of a terminal: accents, joiners, direction marks.
_NO_COLUMN = ("Cf", "Mn", "Me")
# Fonts of formulas, and one that has a box for every letter.
_NOT_FOR_TEXT = ("Last Resort", "STIX", "cm", "DejaVu")


def one_line(text: str, most: int | None = None) -> str:
    """A name without line breaks, tabs and other control characters, which become a space each.

    Args:
        text: the name.
        most: length in characters, beyond which an ellipsis replaces the rest; any if None.

    Returns:
        The line, without space at its ends.
    """
    line = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") else c for c in text)
    line = " ".join(line.split(" ")).strip()
    return line if most is None or len(line) <= most else line[: most - 1].rstrip() + _ELLIPSIS


def table_cell(text: str, most: int = 200) -> str:
    """A name as a cell of a markdown table: on one line, with nothing that would end the cell or be code.

    Args:
        text: any text.
        most: characters; longer ones are cut.
    """
    return one_line(text, most).replace("|", "\\|").replace("`", "\\`")


def display_width(text: str) -> int:
    """Columns that a text takes on a terminal: East Asian wide letters and emoji take two."""
    return sum(
        0 if unicodedata.category(c) in _NO_COLUMN else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def printable(text: str) -> str:
    """A text on one line, with the code points of letters that no font on this machine has.

    Args:
        text: of any script.

    Returns:
        The text; such letters as `U+4E2D`, set off by spaces. The first time, a warning says what to do.
    """
    parts = []
    # Joiners, direction marks and variation selectors are no letters: left out where the font has none.
    line = "".join(c for c in one_line(text) if not _is_invisible(c) or _has(_dejavu(), c))
    for missing, letters in groupby(line, key=lambda c: font_of(c) is None):
        run = "".join(letters)
        parts.append(" " + " ".join(f"U+{ord(c):04X}" for c in run) + " " if missing else run)
        if missing:
            _warn_once(run)
    return parts[0].strip() if len(parts) == 1 else one_line(" ".join("".join(parts).split()))


def runs(text: str) -> Iterator[tuple[Path, str]]:
    """Splits a printable text into parts of one font each.

    Args:
        text: of `printable`.

    Yields:
        The font's file, and the letters to write in it.
    """
    font = _dejavu()
    for found, letters in groupby(text, key=lambda c: font_of(c) or font):
        yield found, "".join(letters)


@cache
def font_of(letter: str) -> Path | None:
    """The font that a letter is written in.

    Args:
        letter: one character.

    Returns:
        The file of DejaVu Sans where it has the letter (or the character is no letter), else of another font
        of this machine; None where none has it.
    """
    if _is_invisible(letter) or letter.isspace() or _has(_dejavu(), letter):
        return _dejavu()
    return next((font for font in _other_fonts() if _has(font, letter)), None)


def letter_figure(figure: Figure) -> None:
    """Makes all texts of a chart printable: the last step before it is rendered.

    A "$" in a name starts no formula.

    Args:
        figure: of matplotlib, with its texts.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    used: set[Path] = set()
    of_ticks: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(
                axis.get_major_formatter(), FixedFormatter | FuncFormatter
            ):  # labels that were given
                labels = [printable(label.get_text()) for label in axis.get_majorticklabels()]
                axis.set_ticks(axis.get_majorticklocs(), [label.replace("$", r"\$") for label in labels])
                used.update(font for label in labels for font, _ in runs(label))
            ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
            of_ticks.update(id(label) for tick in ticks for label in (tick.label1, tick.label2))
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in of_ticks and text.get_text():
            lines = [printable(line) for line in text.get_text().split("\n")]
            text.set_text("\n".join(lines))
            text.set_parse_math(False)
            used.update(font for line in lines for font, _ in runs(line))
    others = sorted(used - {_dejavu()})
    if others:
        _use_fonts(figure, others)


def _use_fonts(figure: Figure, fonts: list[Path]) -> None:
    """Lets all texts take letters that DejaVu Sans lacks from other fonts."""
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    families = {Path(entry.fname): entry.name for entry in fontManager.ttflist}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs missing in DejaVu Sans alone
        figure.draw_without_rendering()  # makes the labels of ticks
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontfamily(["DejaVu Sans", *(families[font] for font in fonts)])


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) == "Cf" or 0xFE00 <= ord(letter) <= 0xFE0F


@cache
def _dejavu() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


@cache
def _other_fonts() -> tuple[Path, ...]:
    """The machine's fonts for text, upright ones of normal weight first."""
    from matplotlib.font_manager import fontManager

    entries = [entry for entry in fontManager.ttflist if not entry.name.startswith(_NOT_FOR_TEXT)]
    entries.sort(
        key=lambda e: (e.style != "normal", e.weight not in (400, "normal", "regular"), e.name, e.fname)
    )
    return tuple(Path(entry.fname) for entry in entries)


@cache
def _glyphs(font: Path) -> frozenset[int]:
    """The code points that a font has outlines of; none where it cannot be read or is of bitmaps."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(str(font))
        return frozenset(face.get_charmap()) if face.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _has(font: Path, letter: str) -> bool:
    return ord(letter) in _glyphs(font)


@cache
def _warned() -> set[str]:
    return set()


def _warn_once(letters: str) -> None:
    if not _warned():
        _warned().add(letters)
        logging.getLogger("vision_jax").warning(
            "no font on this machine has the letters %s: pictures and charts write their code points, such "
            "as U+%04X; install a font that has them, such as Noto (Debian: apt install fonts-noto-cjk "
            "fonts-noto-core)", letters[:12], ord(letters[0]),
        )  # fmt: skip
