"""Images larger than a device's memory, labeled tile by tile.

Tiles have one size, so that a program is compiled once, and overlap, so that each pixel is predicted by a
tile in which it lies far from the border. With an overlap of half the receptive field, and tiles that begin
at multiples of the network's coarsest stride, the predictions are those of the whole image: a tile at its
border ends where the whole image, padded to multiples of that stride, would. They differ under group norm,
whose moments are then a tile's, and where scores are interpolated to images whose sides are no multiples of
the stride. Views at other scales need a stride whose multiples by all scales are multiples of the network's,
and images with such sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from vision_jax.types import Segmentation, SegmentationBatch, UserError


def by_tiles(
    predict: Callable[[SegmentationBatch], Segmentation],
    image: Any,
    tile: tuple[int, int] = (512, 512),
    overlap: int = 64,
    stride: int = 32,
) -> Iterator[tuple[slice, slice, Float[np.ndarray, "_h _w k"]]]:
    """Predicts an image part by part.

    Args:
        predict: labels a batch of one image, as `vision_jax.training.predictor` gives it for a run, or a
            model's `predict` with its variables.
        image: uint8 RGB [h, w, 3]: anything that gives numpy arrays for slices, such as a `numpy.memmap`.
        tile: rows and columns that the network sees at a time, multiples of `stride`.
        overlap: pixels at each inner border of a tile that are seen and not predicted; rounded up to a
            multiple of `stride`.
        stride: the network's coarsest.

    Yields:
        (rows, columns, probabilities) of parts that do not overlap and together are the image.

    Raises:
        UserError: tiles are no multiples of the stride, or nothing but overlap.
    """
    if any(side < 1 or side % stride for side in tile):
        raise UserError(f"tiles of {tile[1]}x{tile[0]}: give multiples of the network's stride, {stride}")
    overlap += -overlap % stride
    height, width = image.shape[:2]
    rows = _parts(height, tile[0], overlap, stride)
    for top, first, last in rows:
        for left, begin, end in _parts(width, tile[1], overlap, stride):
            seen = np.asarray(image[top : top + tile[0], left : left + tile[1]])
            shape = tuple(
                min(side, length + -length % stride)
                for side, length in zip(tile, (height, width), strict=True)
            )
            found = predict(_batch(seen, shape))
            answer = np.asarray(found.probabilities[0])
            inside = answer[first - top : last - top, begin - left : end - left]
            yield slice(first, last), slice(begin, end), inside


def label_by_tiles(
    predict: Callable[[SegmentationBatch], Segmentation],
    image: Any,
    tile: tuple[int, int] = (512, 512),
    overlap: int = 64,
    stride: int = 32,
    out: Integer[np.ndarray, "h w"] | None = None,
) -> Integer[np.ndarray, "h w"]:
    """The most probable class of each pixel.

    Args:
        predict, image, tile, overlap, stride: as in `by_tiles`.
        out: where to write labels, such as a `numpy.memmap`; a new array of the smallest unsigned type that
            holds the classes if None.

    Returns:
        The labels, `out` where that was given.

    Raises:
        UserError: as `by_tiles`.
    """
    labels: Any = out
    for rows, columns, probabilities in by_tiles(predict, image, tile, overlap, stride):
        if labels is None:
            labels = np.zeros(image.shape[:2], np.min_scalar_type(probabilities.shape[-1] - 1))
        labels[rows, columns] = probabilities.argmax(-1)
    return labels


def _parts(length: int, tile: int, overlap: int, stride: int) -> list[tuple[int, int, int]]:
    """Along one axis: where each tile begins, and the pixels it answers, from and up to."""
    whole = length + -length % stride
    if whole <= tile:
        return [(0, 0, length)]
    step = tile - 2 * overlap
    if step < stride:
        raise UserError(f"tiles of {tile} pixels with {overlap} of overlap on each side answer nothing")
    begins = [*range(0, whole - tile, step), whole - tile]
    bounds = [0, *(begin + overlap for begin in begins[1:]), length]
    return [(b, bounds[i], bounds[i + 1]) for i, b in enumerate(begins)]


def _batch(image: np.ndarray, shape: tuple[int, ...]) -> SegmentationBatch:
    """One image at the top left of a canvas; it has no labels."""
    height, width = image.shape[:2]
    canvas = np.zeros((1, *shape, 3), np.uint8)
    canvas[0, :height, :width] = image
    size = jnp.array([[height, width]], jnp.int32)
    return SegmentationBatch(
        image=jnp.asarray(canvas),
        size=size,
        labels=jnp.full((1, *shape), -1, jnp.int32),
        id=jnp.zeros(1, jnp.int32),
        original_size=size,
        example_valid=jnp.ones(1, bool),
    )
