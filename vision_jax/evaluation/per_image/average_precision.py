"""Average precision of any multiset of a split's images, once every detection has been matched.

Whether a detection is right depends on its own image alone, so it is matched once. Only the order in which
detections count, and how often each does, changes with the images taken: that is what a bootstrap repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, Shaped

# Counts of detections by resample that are held in memory at once.
_COUNTS_HELD = 2**21
_RECALLS = np.linspace(0, 1, 101)

# From the objects found [points resamples] and wanted [resamples], the fraction of the recall axis reached.
RecallFraction = Callable[[np.ndarray, np.ndarray], np.ndarray]


def fraction_of_101_recalls(
    found: Int[np.ndarray, "p d"], wanted: Int[np.ndarray, " d"]
) -> Float[np.ndarray, "p d"]:
    """The fraction of the 101 recalls 0, 0.01, ... 1 that is reached (COCO), compared in float64."""
    return np.searchsorted(_RECALLS, found / wanted, side="right") / len(_RECALLS)


def fraction_of_11_recalls(
    found: Int[np.ndarray, "p d"], wanted: Int[np.ndarray, " d"]
) -> Float[np.ndarray, "p d"]:
    """The fraction of the 11 recalls 0, 0.1, ... 1 that is reached (VOC 2007)."""
    return (10 * found // wanted + 1) / 11


def fraction_of_all_recalls(
    found: Int[np.ndarray, "p d"], wanted: Int[np.ndarray, " d"]
) -> Float[np.ndarray, "p d"]:
    """The recall itself: the whole area under the curve counts (VOC 2010)."""
    return found / wanted


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """Which detections of a split are right, in some ranges of area and at some IoU thresholds.

    Detections lie by class; in a class, in the order in which they count: by falling score, equal ones
    image by image.

    Attributes:
        labels: class of each, 0..K-1, ascending.
        images: position of its image in the split.
        scores: falling in each class.
        right: found a wanted object.
        counts: is right or wrong; the others found something ignored, or lie outside the range of area.
        wanted: how many objects are to be found, by range of area, image and class.
    """

    labels: Int32[np.ndarray, " n"]
    images: Int32[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    right: Bool[np.ndarray, "n areas ious"]
    counts: Bool[np.ndarray, "n areas ious"]
    wanted: Int32[np.ndarray, "areas images k"]

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> MatchedDetections:
        """From what `arrays` gives.

        Raises:
            KeyError: an array is missing.
            ValueError: one has another type or shape, or they contradict one another.
        """
        read = {field.name: arrays[field.name] for field in fields(cls)}
        for name, dtype in zip(read, ("int32", "int32", "float32", "bool", "bool", "int32"), strict=True):
            if read[name].dtype != dtype:
                raise ValueError(f"{name} are {read[name].dtype}")
        labels, images, scores, right, counts, wanted = read.values()
        n, flags = labels.size, (labels.size, len(wanted), right.shape[-1])
        one_each = labels.shape == images.shape == scores.shape == (n,)
        if not (one_each and right.shape == counts.shape == flags and wanted.ndim == 3):
            raise ValueError("detections' images, scores and matches differ in number")
        if np.any(right & ~counts):
            raise ValueError("detections that are right do not count")
        if n and not 0 <= images.min() <= images.max() < wanted.shape[1]:
            raise ValueError("detections of images that are not there")
        if n and not (labels[0] >= 0 and labels[-1] < wanted.shape[2] and (np.diff(labels) >= 0).all()):
            raise ValueError("detections not in the order of their classes")
        return cls(**read)

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Its arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def average_precision(
        self,
        weights: Int32[np.ndarray, "d images"],
        fraction: RecallFraction,
        area: int = 0,
        ious: Sequence[int] = (0,),
    ) -> Float[np.ndarray, "d k t"]:
        """The mean over recalls of the best precision at that recall or a higher one.

        Of an image that occurs twice, all detections of equal score count in their order, then again in it.

        Args:
            weights: how often each image occurs in each of D resamples.
            fraction: of which recalls the mean is taken.
            area: position of the range of area.
            ious: positions of the IoU thresholds.

        Returns:
            By resample, class and threshold, 0..1, float64; NaN where no object is wanted.
        """
        wanted = self._wanted(weights, area)
        result = np.full((*wanted.shape, len(ious)), np.nan)
        by_image = np.ascontiguousarray(weights.T)
        for k in np.flatnonzero(self.wanted[area].any(axis=0)):
            start, stop = np.searchsorted(self.labels, [k, k + 1])
            mine = slice(int(start), int(stop))
            right, counts = self.right[mine, area][:, ious], self.counts[mine, area][:, ious]
            tied = self._tied(mine, right, counts)
            step = max(1, _COUNTS_HELD // max(1, len(tied)))
            for first in range(0, len(weights), step):
                chunk = slice(first, first + step)
                order, times = _repeated(by_image[:, chunk], self.images[mine], tied)
                of_class = np.maximum(wanted[chunk, k], 1)
                for i in range(len(ious)):
                    found, best = _curve(times, right[order, i], counts[order, i])
                    reached = np.diff(fraction(found, of_class), axis=0, prepend=0)
                    result[chunk, k, i] = np.einsum("pd,pd->d", best, reached)
        result[wanted == 0] = np.nan
        return result

    def recall(
        self, weights: Int32[np.ndarray, "d images"], limit: int, area: int = 0
    ) -> Float[np.ndarray, "d k t"]:
        """The fraction of wanted objects that is found.

        Args:
            weights: how often each image occurs in each of D resamples.
            limit: so many detections, the best, count for an image and class.
            area: position of the range of area.

        Returns:
            By resample, class and IoU threshold, 0..1, float64; NaN where no object is wanted.
        """
        wanted = self._wanted(weights, area)
        _, images, k = self.wanted.shape
        early = self._rank() < limit
        cell = self.images.astype(np.int64) * k + self.labels
        found = [
            weights.astype(np.float64) @ np.bincount(cell[early & hit], minlength=images * k).reshape(-1, k)
            for hit in np.moveaxis(self.right[:, area], -1, 0)
        ]
        quotient = np.stack(found, axis=-1) / np.maximum(wanted, 1)[..., None]
        quotient[wanted == 0] = np.nan
        return quotient

    def _wanted(self, weights: Int32[np.ndarray, "d images"], area: int) -> Int[np.ndarray, "d k"]:
        """How many objects are to be found in each resample, by class: int64."""
        # In float64, which is exact here and multiplies far faster than integers.
        return (weights.astype(np.float64) @ self.wanted[area]).astype(np.int64)

    def _rank(self) -> Int[np.ndarray, " n"]:
        """The rank of each detection among those of its image and class, 0 for the best."""
        order = np.lexsort((self.images, self.labels))
        new = np.ones(len(order), bool)
        new[1:] = (np.diff(self.images[order]) != 0) | (np.diff(self.labels[order]) != 0)
        count = np.arange(len(order))
        rank = np.empty_like(count)
        rank[order] = count - np.maximum.accumulate(np.where(new, count, 0))
        return rank

    def _tied(
        self, mine: slice, right: Bool[np.ndarray, "m t"], counts: Bool[np.ndarray, "m t"]
    ) -> Int[np.ndarray, " m"]:
        """Numbers a class's detections; equal numbers mark ties within an image, where their order matters.

        A tie: detections of one image with equal scores, some right and some wrong.

        Args:
            mine: the class's detections.
            right, counts: of these, by IoU threshold.

        Returns:
            A number each, ascending from 0.
        """
        new = np.ones(len(right), bool)
        new[1:] = (np.diff(self.images[mine]) != 0) | (np.diff(self.scores[mine]) != 0)
        if new.all():
            return np.arange(len(new))
        starts, group = np.flatnonzero(new), np.cumsum(new) - 1
        some_right, some_wrong = (np.logical_or.reduceat(flags, starts) for flags in (right, counts & ~right))
        mixed = np.any(some_right & some_wrong, axis=1)
        return np.cumsum(new | ~mixed[group]) - 1


def _repeated(
    weights: Int32[np.ndarray, "images d"], images: Int32[np.ndarray, " m"], tied: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " n"], Int32[np.ndarray, "n d"]]:
    """A class's detections in the order in which they count, and how often each does there.

    One that occurs twice counts twice at its position. Not so among ties of its image (see `_tied`): in an
    image taken twice, the first, the second, the first, the second. Those are listed once for each time.

    Args:
        weights: how often each image occurs in each of D resamples.
        images: position of each detection's image.
        tied: its number, equal for ties.

    Returns:
        Positions among the M detections, of the N listed ones; and how often each counts, by resample.
    """
    size = np.bincount(tied)[tied] if len(tied) else tied
    most = weights[images[size > 1]].max(initial=0)
    if most < 2:
        return np.arange(len(images)), weights[images]
    copies = np.where(size > 1, most, 1)
    order = np.repeat(np.arange(len(images)), copies)
    copy = np.arange(len(order)) - np.repeat(np.cumsum(copies) - copies, copies)
    sort = np.lexsort((order, copy, tied[order]))
    order, copy = order[sort], copy[sort]
    times, listed = weights[images[order]], size[order] > 1
    times[listed] = times[listed] > copy[listed, None]
    return order, times


def _curve(
    times: Int32[np.ndarray, "n d"], right: Bool[np.ndarray, " n"], counts: Bool[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, "p d"], Float[np.ndarray, "p d"]]:
    """The precision-recall curve after each of the P detections that are right: precision peaks only there.

    Args:
        times: how often each listed detection counts, by resample.
        right: which of them found a wanted object.
        counts: which of them are right or wrong.

    Returns:
        Objects found so far, and the best precision (0..1) here or further on; by resample.
    """
    positions = np.flatnonzero(right)
    if not len(positions):
        return np.zeros((0, times.shape[1]), np.int64), np.zeros((0, times.shape[1]))
    if counts.all():
        listed = times[: positions[-1] + 1]
    else:
        chosen = np.flatnonzero(counts[: positions[-1] + 1])
        listed, positions = times[chosen], np.searchsorted(chosen, positions)
    found = np.cumsum(listed[positions], axis=0, dtype=np.int64)
    since = np.add.reduceat(listed, np.concatenate([[0], positions[:-1] + 1]), axis=0, dtype=np.int64)
    # A detection that occurs in no resample leaves 0 / 0 at the head of the list.
    precision = found / np.maximum(np.cumsum(since, axis=0), 1)
    return found, np.maximum.accumulate(precision[::-1], axis=0)[::-1]


def mean_where_defined(values: Float[np.ndarray, "d *rest"]) -> Float[np.ndarray, " d"]:
    """The mean of each resample's values that are not NaN, NaN where all are."""
    flat = values.reshape(len(values), -1)
    defined = (~np.isnan(flat)).sum(axis=1)
    return np.divide(np.nansum(flat, axis=1), defined, out=np.full(len(flat), np.nan), where=defined > 0)
