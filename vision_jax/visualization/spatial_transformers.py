"""Pictures of spatial transformers: the sampling grid on the input image, and the sampled image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vision_jax.types import Picture
from vision_jax.visualization.canvas import WRONG, Cell, plot_grid, resize_picture, to_uint8

_LINES = 5
_SHIFT = 4  # of cv2's fixed-point coordinates, in bits


def plot_sampling_grid(
    image: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "hh ww 2"], scale: int = 4
) -> Picture:
    """An image under some rows and columns of its sampling points; the first row is thicker.

    Args:
        image: the transformer's input.
        points: normalized (x, y), -1 and 1 at the outer edges of the outer pixels; lines end where they are
            not finite.
        scale: the picture's pixels for one of the image.

    Returns:
        A picture `scale` times as large.
    """
    picture = np.ascontiguousarray(resize_picture(image, scale))
    extent = np.array(picture.shape[1::-1])
    positions = (np.nan_to_num(points, nan=np.inf) + 1) / 2 * extent
    for lines in (positions, positions.swapaxes(0, 1)):
        for i in np.unique(np.linspace(0, len(lines) - 1, _LINES).round().astype(int)):
            top = i == 0 and lines is positions
            _plot_line(picture, lines[i], max(1, scale // 2) if top else 1)
    return picture


def _plot_line(picture: Picture, line: Float[np.ndarray, "n 2"], thickness: int) -> None:
    """Joins points (x, y), in the picture's pixels, in place; gaps where they are not finite."""
    # cv2 takes coordinates of 16 bits; points far outside are left out.
    near = np.abs(line).max(axis=-1) < 2000
    fixed = np.rint(np.where(near[:, None], line, 0) * (1 << _SHIFT)).astype(int).tolist()
    for i in range(len(line) - 1):
        if near[i] and near[i + 1]:
            cv2.line(picture, fixed[i], fixed[i + 1], WRONG, thickness, cv2.LINE_AA, _SHIFT)


def plot_warps(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    points: Float[np.ndarray, "n hh ww 2"],
    warped: Float[np.ndarray, "n hh ww c"],
    captions: Sequence[str] = (),
    scale: int = 4,
    title: str = "",
) -> Picture:
    """Images with their sampling grids, and below each the sampled image.

    Args:
        images: the transformer's inputs.
        points: of each, normalized (x, y).
        warped: the sampled images, 0..1, of one channel or three.
        captions: one above each image.
        scale: the picture's pixels for one of an image.
        title: a line on top.

    Returns:
        A grid of two rows.
    """
    above = [plot_sampling_grid(image, grid, scale) for image, grid in zip(images, points, strict=True)]
    below = [resize_picture(np.broadcast_to(to_uint8(255 * w), (*w.shape[:2], 3)), scale) for w in warped]
    names = captions or [""] * len(images)
    cells = [Cell(picture, name) for picture, name in zip(above, names, strict=True)]
    return plot_grid([*cells, *(Cell(picture) for picture in below)], len(images), title=title)


def save_gif(path: Path, frames: Sequence[Picture], seconds: float = 0.1) -> None:
    """Writes pictures of one size as a film that begins again at its end.

    Args:
        path: where; its folder is made if it is missing.
        frames: at least one.
        seconds: that each is seen, in hundredths at the finest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, "GIF", save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0)
