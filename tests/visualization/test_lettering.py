"""Names in any script: on one line in tables, in letters that a font has in charts and pictures."""

import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image, ImageDraw

from vision_jax.evaluation.figures import write_confusion, write_pr_curves
from vision_jax.evaluation.tables import confusion_table, markdown_table
from vision_jax.tasks.summary import counts_table
from vision_jax.types import lettering
from vision_jax.types.lettering import display_width, font_of, one_line, printable, table_cell
from vision_jax.visualization.canvas import Cell, plot_grid, plot_text, text_width
from vision_jax.visualization.detection.boxes import plot_boxes
from vision_jax.visualization.plots import new_figure, to_picture
from vision_jax.visualization.summary import plot_class_counts

AWKWARD = [
    "中国|a",
    "قطة",
    "😀",
    "line\nbreak",
    "tab\there",
    "`code`",
    "$5 or $6",
    "_hidden",
    "x" * 500,
    "",
    "\u200d",
]


@pytest.fixture(autouse=True)
def only_the_fonts_that_come_along(monkeypatch):
    """As on a machine without further fonts, whatever this one has."""
    for cached in (lettering.font_of, lettering._warned):
        cached.cache_clear()
    monkeypatch.setattr(lettering, "_other_fonts", lambda: ())
    yield
    for cached in (lettering.font_of, lettering._warned):
        cached.cache_clear()


def test_letters_without_a_font_become_code_points_and_one_warning(caplog):
    with caplog.at_level(logging.WARNING, "vision_jax"):
        assert printable("cat") == "cat"
        assert printable("中国") == "U+4E2D U+56FD"
        assert printable("cat 猫, 2") == "cat U+732B , 2"
        assert printable("Katze größer") == "Katze größer"
        assert printable("кот") == "кот"
        assert printable("🦄") == "U+1F984"
        assert printable("a\U000e0062b\ufe0f") in ("ab", "ab\ufe0f")  # a tag and a variation selector
    assert len(caplog.records) == 1
    assert "U+4E2D" in caplog.text
    assert "fonts-noto-cjk" in caplog.text


def test_text_of_several_lines_becomes_one():
    assert one_line("a\nb\r\tc\x00d\u2028e") == "a b  c d e"
    assert one_line("  abcdef ", 4) == "abc…"
    assert one_line("") == ""
    assert [display_width(text) for text in ("cat", "中国", "e\u0301", "")] == [3, 4, 1, 0]


def test_cells_do_not_break_a_table():
    assert table_cell("a|b\nc `d`\te") == "a\\|b c \\`d\\` e"
    assert len(table_cell("x" * 500)) == 200
    table = counts_table(AWKWARD, {"train": [1] * len(AWKWARD), "val": [2] * len(AWKWARD)}, "objects")
    aligned = markdown_table(["class", "AP|50"], [[name, "1"] for name in AWKWARD])
    confused = confusion_table(np.eye(len(AWKWARD), dtype=int), AWKWARD, AWKWARD)
    for text, columns, rows in ((table, 3, 3), (aligned, 2, 2), (confused, len(AWKWARD) + 1, 2)):
        lines = text.splitlines()
        assert len(lines) == len(AWKWARD) + rows
        for line in lines:
            bare = line.replace("\\|", "")
            assert bare.count("|") == columns + 1
            assert "\t" not in line
    # Two columns a wide letter: the bars stand below one another.
    assert len({display_width(line) for line in aligned.splitlines()}) == 1


def test_charts_of_any_names_are_plotted_without_a_warning(tmp_path, caplog):
    count = len(AWKWARD)
    precision = np.linspace(1, 0, 101)[None, :, None, None, None] * np.ones((10, 1, count, 4, 3))
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        assert plot_class_counts(np.arange(count), AWKWARD).std() > 0
        write_pr_curves(tmp_path / "pr.png", precision, AWKWARD)
        write_confusion(
            tmp_path / "confusion.png", np.eye(count, dtype=int), AWKWARD, AWKWARD, "中 $x$ of $y"
        )
        plot_grid([Cell(np.zeros((9, 9, 3), np.uint8), name) for name in AWKWARD], 3,
                  [(name, (9, 9, 9)) for name in AWKWARD], "一 note", "标题")  # fmt: skip
    assert [record.name for record in caplog.records] == ["vision_jax"]  # none of matplotlib's


def texts_of(figure):
    axes = figure.axes[0]
    return [text.get_text() for text in axes.get_yticklabels()], axes.get_title(loc="left")


def test_a_chart_says_code_points_and_dollars_as_they_are(monkeypatch):
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.set_yticks([0, 1], ["中", "$5 or $6"])
    axes.set_title("国 $a$", loc="left")
    assert to_picture(figure).std() > 0
    labels, title = texts_of(figure)
    assert labels == ["U+4E2D", r"\$5 or \$6"]
    assert title == "U+56FD $a$"


def test_legends_keep_a_class_whose_name_begins_with_an_underscore(tmp_path):
    precision = np.ones((10, 101, 1, 4, 3))
    write_pr_curves(tmp_path / "named.png", precision, ["_hidden"])
    write_pr_curves(tmp_path / "plain.png", precision, ["hidden"])
    named, plain = (Image.open(tmp_path / name).size for name in ("named.png", "plain.png"))
    assert named[0] >= plain[0]


def test_boxes_carry_code_points_and_very_long_names_are_cut():
    image = np.full((120, 240, 3), 255, np.uint8)
    boxes, labels = np.array([[20.0, 40, 200, 100]], np.float32), np.zeros(1, int)

    def plotted(name):
        return plot_boxes(image, boxes, labels, None, [name])

    np.testing.assert_array_equal(plotted("中"), plotted("U+4E2D"))
    np.testing.assert_array_equal(plotted("a\nb"), plotted("a b"))
    without = plot_boxes(image, boxes, labels, None, [""])
    assert np.any(plotted("x" * 500) != without)  # cut, not left out


def renamed_font(folder: Path) -> Path:
    """A font of another name that has letters which DejaVu Sans lacks: STIX's script capitals."""
    source = Path(font_manager.findfont("STIXGeneral"))
    return Path(shutil.copy(source, folder / "Machine.ttf"))


def test_letters_come_from_another_font_of_the_machine(tmp_path, monkeypatch, caplog):
    font = renamed_font(tmp_path)
    extra = lettering._glyphs(font) - lettering._glyphs(lettering._dejavu())
    letter = min(chr(code) for code in extra if chr(code).isalpha())
    monkeypatch.setattr(lettering, "_other_fonts", lambda: (font,))
    lettering.font_of.cache_clear()
    entry = font_manager.ttfFontProperty(font_manager.get_font(str(font)))
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist, entry])
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        assert font_of(letter) == font
        assert printable(f"a {letter}") == f"a {letter}"
        figure = new_figure(3, 2)
        figure.add_subplot().set_yticks([0], [f"a {letter}"])
        to_picture(figure)
        assert texts_of(figure)[0] == [f"a {letter}"]
        page = Image.new("RGB", (60, 30))
        plot_text(ImageDraw.Draw(page), (2, 2), letter, (255, 255, 255), 18)
        assert np.asarray(page).any()
        assert text_width(f"a{letter}", 18) > text_width("a", 18)
    assert caplog.text == ""
