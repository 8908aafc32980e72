"""The inner loop of RoIAlign: sums over small windows of a map.

All kernels of windows read an *atlas* [Y, X, C]: an image or feature map, or a pyramid's maps one above the
other. They know nothing of boxes or transforms, only where to read. What is unusual in them is for speed,
measured at 512 boxes of 7 x 7 bins on 50 x 50 x 256 features:

- A sum of gathers that differ only in their indices compiles to one loop over channels; the same gather
  with an axis to sum over does not, and takes ten times as long.
- XLA on the CPU merges the gathers into a matrix product or a sum that reads them, and gathers anew for every
  tile of it; what is the result of a loop, or stands behind a barrier, cannot be merged.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Num

from vision_jax.kernels.in_place import by_image, read_part, write_part


@jax.custom_vjp
def window_sums(
    atlas: Num[Array, "y x c"], corners: Int[Array, "n s 2"], weights: Float[Array, "n s 2 2"]
) -> Float[Array, "n c"]:
    """Weighted sums over windows of 2 x 2 cells: bilinear samples, added up.

    Only the atlas receives a gradient.

    Args:
        atlas: the features.
        corners: int32 (y, x) of each window's first cell; the whole window is inside the atlas.
        weights: of each window's cells.

    Returns:
        For each n, the sum over its s windows, in the weights' dtype.
    """
    return by_image(_sum_by_parts, _sum_at_once, atlas, corners, weights)


def _sum_by_parts(
    atlas: Num[Array, "y x c"], corners: Int[Array, "n s 2"], weights: Float[Array, "n s 2 2"]
) -> Float[Array, "n c"]:
    """Sums one eighth of the windows after the other."""

    def cut(array):
        padded = jnp.pad(array, ((0, -len(array) % 8), *[(0, 0)] * (array.ndim - 1)))
        return padded.reshape(8, -1, *array.shape[1:])

    sums = lax.map(lambda part: _sum_at_once(atlas, *part), (cut(corners), cut(weights)))
    return sums.reshape(-1, sums.shape[-1])[: len(corners)]


def _sum_at_once(
    atlas: Num[Array, "y x c"], corners: Int[Array, "n s 2"], weights: Float[Array, "n s 2 2"]
) -> Float[Array, "n c"]:
    """Sums all windows together, gather by gather."""
    height, width, channels = atlas.shape
    rows = atlas.reshape(height * width, channels)
    first = corners[..., 0] * width + corners[..., 1]

    def add_window(s, total):
        for dy in (0, 1):
            for dx in (0, 1):
                cells = rows.at[first[:, s] + (dy * width + dx)].get(mode="promise_in_bounds")
                total = total + cells * weights[:, s, dy, dx, None]
        # A pass for each window: four gathers in one loop are faster than all sixteen.
        return lax.optimization_barrier(total)

    total = jnp.zeros((corners.shape[0], channels), weights.dtype)
    return lax.fori_loop(0, corners.shape[1], add_window, total, unroll=4)


def _window_sums_forward(
    atlas: Num[Array, "y x c"], corners: Int[Array, "n s 2"], weights: Float[Array, "n s 2 2"]
) -> tuple[Float[Array, "n c"], tuple[Array, Array, Array]]:
    """The sums, and what the gradient needs."""
    # The features themselves are not needed again, only their shape and dtype.
    return window_sums(atlas, corners, weights), (atlas[..., :0], corners, weights)


def _window_sums_backward(
    residuals: tuple[Num[Array, "y x 0"], Int[Array, "n s 2"], Float[Array, "n s 2 2"]],
    gradient: Float[Array, "n c"],
) -> tuple[Num[Array, "y x c"], None, None]:
    """The atlas's gradient, in its dtype."""
    like, corners, weights = residuals
    spread = by_image(_spread_in_turn, spread_at_once, like, corners, weights, gradient)
    return spread.astype(like.dtype), None, None


def _spread_in_turn(
    like: Num[Array, "y x 0"],
    corners: Int[Array, "n s 2"],
    weights: Float[Array, "n s 2 2"],
    gradient: Float[Array, "n c"],
) -> Float[Array, "y x c"]:
    """Adds each window's gradient in place, one after the other, up to the last that has any weight."""
    per_sum = corners.shape[1]
    weighed = jnp.any(weights != 0, axis=(1, 2, 3))
    sums = jnp.max(jnp.where(weighed, jnp.arange(1, len(weighed) + 1), 0), initial=0)

    def add_window(k, summed):
        n, s = k // per_sum, k % per_sum
        corner = (corners[n, s, 0], corners[n, s, 1], 0)
        cells = weights[n, s][..., None] * gradient[n]
        return write_part(summed, read_part(summed, corner, cells.shape) + cells, corner)

    summed = jnp.zeros((*like.shape[:2], gradient.shape[1]), gradient.dtype)
    return lax.fori_loop(0, sums * per_sum, add_window, summed)


def spread_at_once(
    like: Num[Array, "y x 0"],
    corners: Int[Array, "n s 2"],
    weights: Float[Array, "n s 2 2"],
    gradient: Float[Array, "n c"],
) -> Float[Array, "y x c"]:
    """Adds all windows' gradients by one scatter."""
    cell = jnp.arange(2)
    rows = corners[:, :, 0, None, None] + cell[:, None]
    columns = corners[:, :, 1, None, None] + cell
    of_cells = weights[..., None] * gradient[:, None, None, None, :]
    summed = jnp.zeros((*like.shape[:2], gradient.shape[1]), gradient.dtype)
    return summed.at[rows, columns].add(of_cells, mode="promise_in_bounds")


window_sums.defvjp(_window_sums_forward, _window_sums_backward)
