"""Anchors: the grid of boxes that region proposals start from (Ren et al. 2015, section 3.1).

They depend on sizes alone, never on pixels, so they are made by NumPy while tracing and end up as
constants of the compiled step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num


def base_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], rounded: bool = True
) -> Float[np.ndarray, "a 4"]:
    """The anchors of one position, centered on the origin.

    Args:
        sizes: square roots of the areas, in pixels.
        aspect_ratios: height over width.
        rounded: whether coordinates are rounded to whole pixels (halves to even), as in torchvision.

    Returns:
        float32, one anchor for each pair, all sizes of the first ratio first.

    Raises:
        ValueError: a size or an aspect ratio that is not a positive, finite number.
    """
    ratios, scales = np.asarray(aspect_ratios, np.float32), np.asarray(sizes, np.float32)
    for name, values in (("sizes", scales), ("aspect ratios", ratios)):
        if not np.all((values > 0) & np.isfinite(values)):
            raise ValueError(f"{name} of anchors are positive, finite numbers, not {values.tolist()}")
    height_factor = np.sqrt(ratios)
    heights = (height_factor[:, None] * scales[None, :]).reshape(-1)
    widths = ((1 / height_factor)[:, None] * scales[None, :]).reshape(-1)
    boxes = np.stack([-widths, -heights, widths, heights], axis=-1) / 2
    return np.round(boxes) if rounded else boxes


def grid_anchors(
    feature_size: tuple[int, int], stride: tuple[int, int], base: Num[np.ndarray, "a 4"]
) -> Float[np.ndarray, "n 4"]:
    """Copies of the base anchors at every position of a feature map.

    Position (i, j) sits at pixel (i * stride_y, j * stride_x): the top left corner of its cell, not the
    cell's center, as in torchvision.

    Args:
        feature_size: (height, width) of the map.
        stride: (y, x), pixels of the image per position.
        base: anchors around the origin.

    Returns:
        float32 [height * width * A, 4]: rows of the map one after another, the A anchors of a position
        beside each other, in the order of `base`.
    """
    height, width = feature_size
    y = np.arange(height, dtype=np.float32) * stride[0]
    x = np.arange(width, dtype=np.float32) * stride[1]
    y, x = (axis.reshape(-1) for axis in np.meshgrid(y, x, indexing="ij"))
    shifts = np.stack([x, y, x, y], axis=-1)
    return (shifts[:, None, :] + base[None, :, :]).reshape(-1, 4).astype(np.float32)


def pyramid_anchors(
    image_size: tuple[int, int],
    feature_sizes: Sequence[tuple[int, int]],
    sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float],
) -> list[Float[np.ndarray, "_ 4"]]:
    """The anchors of every level of a feature pyramid (Lin et al. 2017, section 4.1).

    Args:
        image_size: (height, width) of the canvas in pixels.
        feature_sizes: (height, width) of each level's map.
        sizes: for each level, the sizes of its anchors in pixels.
        aspect_ratios: height over width, the same on all levels.

    Returns:
        For each level, float32 [height * width * A, 4] as from `grid_anchors`. A level's stride is the
        whole number of pixels per position, rounded down.

    Raises:
        ValueError: if the numbers of levels differ.
    """
    if len(sizes) != len(feature_sizes):
        raise ValueError(f"{len(feature_sizes)} feature maps but anchor sizes for {len(sizes)} levels")
    return [
        grid_anchors(
            (height, width),
            (image_size[0] // max(height, 1), image_size[1] // max(width, 1)),
            base_anchors(level_sizes, aspect_ratios),
        )
        for (height, width), level_sizes in zip(feature_sizes, sizes, strict=True)
    ]
