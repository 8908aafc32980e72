"""Instance masks as COCO keeps them: run lengths and polygons.

Run-length encoding (Lin et al. 2014, "Microsoft COCO", the `mask` API): the lengths of alternating runs of
zeros and ones down the columns, column after column, zeros first. Files hold them as lists of integers, or
as text in which each length, from the fourth on less the length two before, is cut into groups of five bits,
lowest first, one character each: 48 + bits + 32 if more follow; the top bit of the last group is the sign.

A polygon covers the pixels whose centers (at +0.5) are inside by the even-odd rule; an object of several
polygons covers the union of them. COCO's own rasterizer goes by a polyline sampled at five points a pixel,
and so differs along the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num


def encode_runs(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, " runs"]:
    """Run lengths of a mask, column by column, zeros first: int64; they sum to h * w."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = [0] if flat.size and flat[0] else []
    return np.diff(np.concatenate([first, [0], changes, [flat.size]])).astype(np.int64)


def decode_runs(
    runs: Int[np.ndarray, " runs"], height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """The mask of run lengths.

    Args:
        runs: zeros first, each at least 0, together height * width.
        height, width: of the mask.

    Returns:
        The mask, exactly.
    """
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def pack_runs(runs: Int[np.ndarray, " runs"]) -> str:
    """Run lengths as COCO's text."""
    text = []
    for position, length in enumerate(runs.tolist()):
        rest = length - int(runs[position - 2]) if position > 2 else length
        more = True
        while more:
            bits = rest & 31
            rest >>= 5
            more = rest != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + 32 * more))
    return "".join(text)


def unpack_runs(text: str) -> Int[np.ndarray, " runs"]:
    """Run lengths from COCO's text.

    Raises:
        ValueError: the text holds other characters, a number of over 60 bits, or ends inside a number.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{character!r} does not belong in run lengths")
        value |= (code & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("a run length of over 60 bits")
        if code < 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value, shift = 0, 0
    if shift:
        raise ValueError("the run lengths end inside a number")
    return np.array(runs, np.int64)


def fill_polygon(
    points: Float[np.ndarray, "n 2"], height: int, width: int
) -> Bool[np.ndarray, "{height} {width}"]:
    """The pixels whose centers a polygon holds, by the even-odd rule.

    Args:
        points: (x, y) of the corners, in order, closed by itself; they may lie outside the image.
        height, width: of the mask.

    Returns:
        The mask.
    """
    x, y = points[:, 0] - 0.5, points[:, 1] - 0.5  # pixel centers are now at integers
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first = _pixel(np.minimum(y, next_y), height)
    rows_crossed = _pixel(np.maximum(y, next_y), height) - first
    mask = np.zeros((height, width), bool)
    if not rows_crossed.any():
        return mask
    # each edge crosses rows first .. first + rows_crossed: all crossings in one list
    edge = np.repeat(np.arange(len(x)), rows_crossed)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(rows_crossed) - rows_crossed, rows_crossed)
    row = first[edge] + step
    slope = (next_x - x)[edge] / (next_y - y)[edge]
    column = _pixel(x[edge] + (row - y[edge]) * slope, width)
    # a pixel is inside where an odd number of edges lies to its left on its row
    top, left = row.min(), column.min()
    rows, columns = row.max() + 1 - top, column.max() + 1 - left
    flips = np.bincount((row - top) * columns + column - left, minlength=rows * columns)
    inside = np.cumsum(flips.reshape(rows, columns)[:, :-1], axis=1) % 2 == 1
    mask[top : top + rows, left : left + columns - 1] = inside
    return mask


def _pixel(position: Float[np.ndarray, " n"], limit: int) -> Int[np.ndarray, " n"]:
    """Along one axis, the first pixel whose center is at a position or after it, int64 in 0..limit."""
    return np.clip(np.ceil(position), 0, limit).astype(np.int64)


@dataclass(frozen=True)
class Shapes:
    """Outlines and run lengths of many objects in flat arrays, which pickle fast and share memory.

    Attributes:
        numbers: float64, all coordinates (x, y, x, y, ...) and run lengths one after the other.
        piece_starts: int64 [pieces + 1]; piece p is numbers[piece_starts[p]:piece_starts[p + 1]].
        starts: int64 [objects + 1]; the pieces of object i are starts[i]:starts[i + 1]; none: no shape known.
        runs: bool [objects], whether an object's one piece is run lengths.
    """

    numbers: Float[np.ndarray, " numbers"]
    piece_starts: Int[np.ndarray, " pieces_and_1"]
    starts: Int[np.ndarray, " objects_and_1"]
    runs: Bool[np.ndarray, " objects"]

    @classmethod
    def pack(cls, objects: Sequence[Sequence[Num[np.ndarray, " _"]]], runs: Sequence[bool]) -> Shapes:
        """Packs each object's pieces: polygons (x, y, x, y, ...), or one array of run lengths."""
        pieces = [piece for item in objects for piece in item]
        return cls(
            numbers=np.concatenate([np.empty(0), *pieces]).astype(np.float64),
            piece_starts=np.cumsum([0, *(len(piece) for piece in pieces)]).astype(np.int64),
            starts=np.cumsum([0, *(len(item) for item in objects)]).astype(np.int64),
            runs=np.array(runs, bool),
        )

    def pieces(self, index: int) -> list[Float[np.ndarray, " _"]]:
        """The polygons or run lengths of an object, as packed."""
        span = range(self.starts[index], self.starts[index + 1])
        return [self.numbers[self.piece_starts[p] : self.piece_starts[p + 1]] for p in span]

    def mask(self, index: int, height: int, width: int) -> Bool[np.ndarray, "{height} {width}"]:
        """The mask of an object in its image; all False where no shape is known."""
        mask = np.zeros((height, width), bool)
        for piece in self.pieces(index):
            if self.runs[index]:
                mask |= decode_runs(piece.astype(np.int64), height, width)
            else:
                mask |= fill_polygon(piece.reshape(-1, 2), height, width)
        return mask
