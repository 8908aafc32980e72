"""How often classes occur in label maps, and weights for a loss under which rare ones are learned too."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int, Int64

from vision_jax.data.sources import SegmentationSource, spread


def class_counts(source: SegmentationSource, most: int | None = None) -> Int64[np.ndarray, "images k"]:
    """Counts the pixels of each class in each image; void is left out.

    Args:
        source: each of its label maps is read once, no image.
        most: reads no more than so many of them, evenly spread; all if None.

    Returns:
        The counts, in the order of the source.
    """
    read = spread(len(source), len(source) if most is None else most)
    counts = np.zeros((len(read), len(source.classes)), np.int64)
    for row, index in enumerate(read):
        labels = source.labels(index)
        counts[row] = np.bincount(labels[labels >= 0], minlength=len(source.classes))
    return counts


def median_frequency_weights(
    counts: Int[np.ndarray, "images k"], power: float = 1.0
) -> Float64[np.ndarray, " k"]:
    """Median frequency balancing (Eigen and Fergus 2015; SegNet, Badrinarayanan et al. 2017, section 4).

    A class's frequency is its fraction of the labeled pixels of the images in which it occurs, so that a
    class is rare for being small, not for being absent from many images. Its weight is the median of the
    classes' frequencies over its own.

    Args:
        counts: pixels of each class in each image, without void.
        power: to which the weights are raised: 1 is the papers' rule, 0.5 a milder one, 0 none.

    Returns:
        The weights; 0 of classes without a pixel, which do not enter the median either.
    """
    labeled = np.where(counts > 0, counts.sum(axis=1, keepdims=True), 0).sum(axis=0)
    frequency = counts.sum(axis=0)[labeled > 0] / labeled[labeled > 0]
    weights = np.zeros(counts.shape[1])
    if len(frequency):
        weights[labeled > 0] = (np.median(frequency) / frequency) ** power
    return weights
