"""The inner loop of RoIPool: maxima of rectangles of a map.

What is the result of a loop XLA on the CPU cannot merge with what reads it, and so not gather anew.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Num

from vision_jax.kernels.dtypes import lowest
from vision_jax.kernels.in_place import by_image


@jax.custom_vjp
def rectangle_maxima(atlas: Num[Array, "y x c"], rectangles: Int[Array, "n 4"]) -> Num[Array, "n c"]:
    """The maximum of each channel over rectangles of cells.

    Among equal cells the first in row-major order receives the gradient.

    Args:
        atlas: the features.
        rectangles: int32 (top, bottom, left, right), bottom and right exclusive, inside the atlas.

    Returns:
        The maxima, 0 for an empty rectangle.
    """
    return by_image(_maxima, _maxima, atlas, rectangles)


def _maxima(atlas: Num[Array, "y x c"], rectangles: Int[Array, "n 4"]) -> Num[Array, "n c"]:
    """The maxima, all rectangles together."""
    cells = atlas.reshape(-1, atlas.shape[-1])

    def look(best: Array, cell: Array) -> Array:
        return jnp.maximum(best, cells.at[cell].get(mode="promise_in_bounds"))

    best = jnp.full((len(rectangles), cells.shape[1]), lowest(atlas.dtype), atlas.dtype)
    best = _visit(rectangles, atlas.shape[1], look, best)
    return jnp.where(_is_empty(rectangles)[:, None], 0, best)


def _first_cells(
    atlas: Num[Array, "y x c"], rectangles: Int[Array, "n 4"], best: Num[Array, "n c"]
) -> Int[Array, "n c"]:
    """The first cell, as y * X + x, that holds each channel's maximum; Y * X for an empty rectangle."""
    cells = atlas.reshape(-1, atlas.shape[-1])

    def look(first: Array, cell: Array) -> Array:
        found = cells.at[cell].get(mode="promise_in_bounds") == best
        return jnp.where(found, jnp.minimum(first, cell[:, None]), first)

    first = _visit(rectangles, atlas.shape[1], look, jnp.full(best.shape, len(cells), jnp.int32))
    return jnp.where(_is_empty(rectangles)[:, None], len(cells), first)


def _visit(
    rectangles: Int[Array, "n 4"],
    width: int,
    look: Callable[[Array, Array], Array],
    state: Num[Array, "n c"],
) -> Num[Array, "n c"]:
    """Calls `look(state, y * width + x)` for all cells of all rectangles, a cell of each at a time.

    Cells are visited in blocks of 3 x 3, as often as the largest rectangle needs; small ones see their last
    cells again and again. What is looked up for an empty rectangle means nothing.
    """
    top, bottom, left, right = rectangles.T
    down = jnp.max(-(-(bottom - top) // 3), initial=0)
    across = jnp.max(-(-(right - left) // 3), initial=0)

    def block(step: Array, state: Array) -> Array:
        rows = [jnp.minimum(top + 3 * (step // across) + k, bottom - 1) * width for k in range(3)]
        columns = [jnp.minimum(left + 3 * (step % across) + k, right - 1) for k in range(3)]
        for row in rows:
            for column in columns:
                state = look(state, jnp.maximum(row + column, 0))
        return state

    return lax.fori_loop(0, down * across, block, state)


def _is_empty(rectangles: Int[Array, "n 4"]) -> Bool[Array, " n"]:
    """Whether a rectangle has no cell."""
    top, bottom, left, right = rectangles.T
    return (bottom <= top) | (right <= left)


def _maxima_forward(
    atlas: Num[Array, "y x c"], rectangles: Int[Array, "n 4"]
) -> tuple[Num[Array, "n c"], tuple[Array, Array, Array]]:
    """The maxima, and what the gradient needs."""
    best = rectangle_maxima(atlas, rectangles)
    return best, (atlas, rectangles, best)


def _maxima_backward(
    residuals: tuple[Num[Array, "y x c"], Int[Array, "n 4"], Num[Array, "n c"]],
    gradient: Num[Array, "n c"],
) -> tuple[Num[Array, "y x c"], None]:
    """The atlas's gradient."""
    return by_image(_return_to_first, _return_to_first, *residuals, gradient), None


def _return_to_first(
    atlas: Num[Array, "y x c"],
    rectangles: Int[Array, "n 4"],
    best: Num[Array, "n c"],
    gradient: Num[Array, "n c"],
) -> Num[Array, "y x c"]:
    """Adds each maximum's gradient at the first cell that holds it."""
    channels = atlas.shape[-1]
    cell = _first_cells(atlas, rectangles, best) * channels + jnp.arange(channels, dtype=jnp.int32)
    # The cell of an empty rectangle lies just past the end and is dropped.
    summed = jnp.zeros(atlas.size, gradient.dtype)
    return summed.at[cell.reshape(-1)].add(gradient.reshape(-1), mode="drop").reshape(atlas.shape)


rectangle_maxima.defvjp(_maxima_forward, _maxima_backward)
