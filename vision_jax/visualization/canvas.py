"""What every picture is made of: colors, text, captioned grids, legends, files."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont

from vision_jax.types import Picture, stack_pictures
from vision_jax.types.lettering import font_of, printable, runs

Color = tuple[int, int, int]

INK: Color = (34, 34, 34)
QUIET: Color = (110, 110, 110)
PAPER: Color = (255, 255, 255)
RIGHT: Color = (0, 114, 178)
WRONG: Color = (213, 94, 0)

# Of a page, in pixels: its border, the paper between its pictures, and the line of its title.
_MARGIN, _GAP, _TITLE = 16, 10, 24

# Okabe and Ito (2008), then Tol's "muted": told apart with any kind of color vision.
_PALETTE = (
    "56B4E9", "D55E00", "F0E442", "009E73", "CC79A7", "E69F00", "0072B2",
    "332288", "882255", "999933", "44AA99", "AA4499", "DDCC77", "117733",
)  # fmt: skip


def class_colors(count: int) -> UInt8[np.ndarray, "k 3"]:
    """A color for each class: 14 told apart with any color vision, then hues spread by the golden angle.

    Args:
        count: K.

    Returns:
        RGB, one row a class.
    """
    colors = [[int(code[i : i + 2], 16) for i in (0, 2, 4)] for code in _PALETTE[:count]]
    for k in range(len(colors), count):
        rgb = colorsys.hsv_to_rgb(k * 0.618034 % 1, (0.55, 0.85)[k % 2], (0.95, 0.7, 0.5)[k % 3])
        colors.append([round(255 * v) for v in rgb])
    return np.array(colors, np.uint8).reshape(count, 3)


def rgb(color: UInt8[np.ndarray, "3"]) -> Color:
    """A row of `class_colors` as Pillow's pens take it."""
    return int(color[0]), int(color[1]), int(color[2])


def darker(color: Color) -> Color:
    """A third as bright: for edges that set a color off from any image."""
    return color[0] // 3, color[1] // 3, color[2] // 3


def class_legend(
    seen: Iterable[int], classes: Sequence[str], few: int = 8, most: int = 24
) -> list[tuple[str, Color]]:
    """Names and colors of classes.

    Args:
        seen: labels in the picture; negative ones are left out.
        classes: K names.
        few: up to so many classes are all named.
        most: so many of those seen are named otherwise.

    Returns:
        Entries of `plot_grid`'s legend.
    """
    colors = class_colors(len(classes))
    shown = range(len(classes)) if len(classes) <= few else sorted({k for k in seen if k >= 0})[:most]
    return [(classes[k], rgb(colors[k])) for k in shown]


def ink_on(color: Sequence[int]) -> Color:
    """Black or white, whichever contrasts more with a color (RGB, 0..255)."""
    luminance = np.dot(np.asarray(color, float) / 255, (0.299, 0.587, 0.114))
    return (0, 0, 0) if luminance > 0.5 else (255, 255, 255)


@cache
def font(size: int, path: Path) -> ImageFont.FreeTypeFont:
    """A font in a size of pixels."""
    return ImageFont.truetype(path, size)


def text_width(text: str, size: int) -> int:
    """Width of a line in pixels, as `plot_text` writes it."""
    return int(np.ceil(sum(font(size, path).getlength(part) for path, part in runs(printable(text)))))


def plot_text(
    pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, color: Color, size: int
) -> None:
    """Writes a line in letters that a font has (`vision_jax.types.lettering`).

    Args:
        pen: of the page.
        corner: (x, y) of the line's top left.
        text: of any script.
        color: of the letters.
        size: in pixels.
    """
    x, y = corner
    y += font(size, font_of(" ") or Path()).getmetrics()[0]  # fonts share a baseline
    for path, part in runs(printable(text)):
        pen.text((x, y), part, color, font(size, path), anchor="ls")
        x += font(size, path).getlength(part)


def fit_text(text: str, size: int, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    text = printable(text)
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "\u2026", size) > width:
        text = text[:-1]
    return text.rstrip() + "\u2026" if text else ""


def resize_picture(image: Shaped[np.ndarray, "h w *c"], scale: float) -> Shaped[np.ndarray, "h2 w2 *c"]:
    """Resizes by a factor: averaged when smaller, bicubic when larger, nearest neighbor from 4 times on.

    Args:
        image: of any dtype that cv2 resizes.
        scale: above 0; each side keeps at least one pixel.
    """
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC if scale < 4 else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=how)


def display_scale(height: int, width: int, smallest: int = 480, largest: int = 640) -> float:
    """The factor that brings an image's longer side between two limits, in pixels."""
    longer = max(height, width)
    return max(smallest / longer, 1.0) if longer <= largest else largest / longer


def mark_padding(image: Picture, height: int, width: int) -> Picture:
    """Hatches what lies outside the top left height x width pixels, to tell padding from black content."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    stripes = np.where((rows + columns) // 6 % 2, 226, 240).astype(np.uint8)[..., None]
    outside = (rows >= height) | (columns >= width)
    return np.where(outside[..., None], stripes, image)


@dataclass(frozen=True)
class Cell:
    """One picture of a grid.

    Attributes:
        picture: of any size.
        caption: one line above it.
        color: of the caption.
        framed: whether a frame of that color is around it.
    """

    picture: Picture
    caption: str = ""
    color: Color = INK
    framed: bool = False


def first_row(page: Picture) -> Picture:
    """The top of a page of `plot_grid` down to the end of its first row of pictures; a view of it."""
    blank = (page == PAPER).all(axis=(1, 2))
    # Captions lie close to their pictures; below the title only rows have so much paper between them.
    edges = np.flatnonzero(np.diff(np.concatenate([[0], blank, [0]])))
    for start, stop in edges.reshape(-1, 2):
        if start > 2 * _TITLE and stop - start >= _GAP:
            return page[:start]
    return page


def plot_grid(
    cells: Sequence[Cell],
    columns: int,
    legend: Sequence[tuple[str, Sequence[int]]] = (),
    note: str = "",
    title: str = "",
) -> Picture:
    """Captioned pictures in rows, with a legend below.

    Args:
        cells: row by row; they may differ in size.
        columns: cells a row.
        legend: names with their colors.
        note: a line below the legend.
        title: a line on top.

    Returns:
        The whole page, on white.
    """
    margin, gap, size = _MARGIN, _GAP, 13
    columns = min(columns, max(1, len(cells)))
    captioned = any(cell.caption for cell in cells)
    head = size + 9 if captioned else 0
    widest = max((cell.picture.shape[1] for cell in cells), default=320)
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [head + max(cell.picture.shape[0] for cell in row) for row in rows]
    width = 2 * margin + columns * widest + (columns - 1) * gap
    width = max(width, 420)
    legend = [(fit_text(name, size, width - 2 * margin - 20), color) for name, color in legend]
    lines = _legend_lines([name for name, _ in legend], width - 2 * margin, size)
    top = margin + (_TITLE if title else 0)
    foot = len(lines) * 24 + (_lines_needed(note, size, width - 2 * margin) * 20 if note else 0)
    height = top + sum(heights) + gap * max(0, len(rows) - 1) + margin + (foot + 8 if foot else 0)

    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    if title:
        plot_text(pen, (margin, margin - 4), fit_text(title, 15, width - 2 * margin), INK, 15)
    y = top
    for row, tall in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            x = margin + column * (widest + gap)
            if cell.caption:
                plot_text(pen, (x, y + 1), fit_text(cell.caption, size, widest), cell.color, size)
            page.paste(Image.fromarray(cell.picture), (x, y + head))
            if cell.framed:
                h, w = cell.picture.shape[:2]
                pen.rectangle((x - 3, y + head - 3, x + w + 2, y + head + h + 2), outline=cell.color, width=3)
        y += tall + gap
    y += 4 if foot else 0
    for line in lines:
        x = margin
        for i in line:
            name, color = legend[i]
            pen.rectangle((x, y + 4, x + 13, y + 17), fill=(color[0], color[1], color[2]), outline=QUIET)
            plot_text(pen, (x + 20, y + 2), name, INK, size)
            x += 20 + text_width(name, size) + 22
        y += 24
    for line in _wrap(note, size, width - 2 * margin):
        plot_text(pen, (margin, y + 2), line, QUIET, size)
        y += 20
    return np.asarray(page)


def _legend_lines(names: Sequence[str], width: int, size: int) -> list[list[int]]:
    """Positions of the names on each line; `width` and letters' `size` in pixels."""
    lines: list[list[int]] = []
    x = width + 1
    for i, name in enumerate(names):
        needed = 20 + text_width(name, size)
        if x + needed > width:
            lines.append([])
            x = 0
        lines[-1].append(i)
        x += needed + 22
    return lines


def _wrap(text: str, size: int, width: int) -> list[str]:
    """Breaks a text between words into lines of at most `width` pixels, if no word is wider."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _lines_needed(text: str, size: int, width: int) -> int:
    return len(_wrap(text, size, width))


def to_uint8(image: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Rounds values of 0..255 (half to even), clipping what lies outside."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def side_by_side(pictures: Sequence[Picture], gap: int = 12) -> Picture:
    """Sets pictures beside one another, on white, flush at the top.

    Args:
        pictures: at least one.
        gap: pixels between them.

    Returns:
        One picture as high as the highest.
    """
    turned = stack_pictures([p.transpose(1, 0, 2) for p in pictures], gap)
    return np.ascontiguousarray(turned.transpose(1, 0, 2))


def save_png(path: Path, picture: Picture) -> None:
    """Writes a picture as PNG, making its folder if it is missing.

    Args:
        path: where.
        picture: RGB.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, format="PNG")
