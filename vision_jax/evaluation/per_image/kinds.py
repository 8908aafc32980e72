"""The kinds of what an image contributes to metrics: means, ratios of sums, pixels by class (of all of it, or
near boundaries), matches of detections.

A new kind is one class that derives from `Contributions`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float64, Int32, Int64, Shaped

from vision_jax.evaluation.per_image.average_precision import (
    MatchedDetections,
    RecallFraction,
    fraction_of_11_recalls,
    fraction_of_101_recalls,
    fraction_of_all_recalls,
    mean_where_defined,
)

# A COCO metric: the IoU threshold (None: all ten), and the range of area, by position.
_AP: dict[str, tuple[int | None, int]] = {
    "AP": (None, 0),
    "AP50": (0, 0),
    "AP75": (5, 0),
    "AP/small": (None, 1),
    "AP/medium": (None, 2),
    "AP/large": (None, 3),
}
_AR = {"AR/1": 1, "AR/10": 10, "AR/100": 100}
# Of each kind of IoU: the prefix of its metrics, and which there are.
_MEASURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "box": ("", (*_AP, *_AR)),
    "mask": ("mask/", tuple(_AP)),
    "boundary": ("boundary/", ("AP", "AP50", "AP75")),
}
_VOC: dict[str, RecallFraction] = {"VOC/mAP": fraction_of_all_recalls, "VOC/mAP11": fraction_of_11_recalls}


class Contributions(ABC):
    """What each image of a split contributes to an evaluator's metrics.

    Attributes:
        kind: its name in files, of which there is no other.
    """

    kind: ClassVar[str]

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""

    @property
    @abstractmethod
    def images(self) -> int:
        """How many."""

    @abstractmethod
    def metrics(
        self, weights: Int32[np.ndarray, "resamples images"], names: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """As `PerImage.metrics`."""

    @abstractmethod
    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """All of it by name, for a file."""

    @classmethod
    @abstractmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Contributions:
        """From what `arrays` gives.

        Raises:
            KeyError: an array is missing.
            ValueError: an array is something else.
        """


def contributions_of(kind: str, arrays: Mapping[str, np.ndarray]) -> Contributions:
    """What a class of this kind gave as arrays, of those that are imported.

    Raises:
        KeyError: there is no such class, or an array is missing.
        ValueError: an array is something else.
    """
    return {part.kind: part for part in Contributions.__subclasses__()}[kind].of(arrays)


@dataclass(frozen=True, eq=False)
class Means(Contributions):
    """Metrics that are means over images, as accuracy is.

    Attributes:
        values: of each image, by metric.
    """

    kind: ClassVar[str] = "means"
    values: Mapping[str, Shaped[np.ndarray, " images"]]

    def __post_init__(self):
        if len({len(values) for values in self.values.values()}) != 1:
            raise ValueError("metrics of different numbers of images")

    @property
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""
        return tuple(self.values)

    @property
    def images(self) -> int:
        """How many."""
        return len(next(iter(self.values.values())))

    def metrics(
        self, weights: Int32[np.ndarray, "resamples images"], names: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """As `PerImage.metrics`."""
        floats = weights.astype(np.float64)
        total = floats.sum(axis=1)
        return {name: _quotient(floats @ self.values[name].astype(np.float64), total) for name in names}

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """All of it by name, for a file."""
        return dict(self.values)

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Means:
        """From what `arrays` gives; KeyError or ValueError where it is something else."""
        if any(values.ndim != 1 or values.dtype.kind not in "bif" for values in arrays.values()):
            raise ValueError("not one number an image")
        return cls(dict(arrays))


@dataclass(frozen=True, eq=False)
class Ratios(Contributions):
    """Metrics that are a sum over images over another: recall, nats a token, edits a word.

    Attributes:
        parts: what each image adds to the sum above, by metric.
        wholes: likewise to the sum below.
    """

    kind: ClassVar[str] = "ratios"
    parts: Mapping[str, Shaped[np.ndarray, " images"]]
    wholes: Mapping[str, Shaped[np.ndarray, " images"]]

    def __post_init__(self):
        numbers = {len(values) for values in (*self.parts.values(), *self.wholes.values())}
        if self.parts.keys() != self.wholes.keys() or len(numbers) != 1:
            raise ValueError("parts and wholes of other metrics or other numbers of images")

    @property
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""
        return tuple(self.parts)

    @property
    def images(self) -> int:
        """How many."""
        return len(next(iter(self.parts.values())))

    def metrics(
        self, weights: Int32[np.ndarray, "resamples images"], names: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """As `PerImage.metrics`; NaN where a sum below is 0."""
        floats = weights.astype(np.float64)
        return {name: _quotient(floats @ self.parts[name], floats @ self.wholes[name]) for name in names}

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """All of it by name, for a file."""
        above = {f"parts/{name}": values for name, values in self.parts.items()}
        return above | {f"wholes/{name}": values for name, values in self.wholes.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Ratios:
        """From what `arrays` gives; KeyError or ValueError where it is something else."""
        if any(values.ndim != 1 or values.dtype.kind not in "if" for values in arrays.values()):
            raise ValueError("not one number an image")
        groups = by_prefix(arrays)
        return cls(groups["parts"], groups["wholes"])


@dataclass(frozen=True, eq=False)
class Pixels(Contributions):
    """Scores of label maps, as `segmentation_scores` defines them, from each image's pixels by class.

    Attributes:
        right: pixels of each class to which it was given.
        true: pixels of each class.
        predicted: pixels, not void, to which it was given.
    """

    kind: ClassVar[str] = "pixels"
    right: Int64[np.ndarray, "images k"]
    true: Int64[np.ndarray, "images k"]
    predicted: Int64[np.ndarray, "images k"]

    @property
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""
        return "pixel_accuracy", "mean_accuracy", "mIoU", "fwIoU"

    @property
    def images(self) -> int:
        """How many."""
        return len(self.right)

    def metrics(
        self, weights: Int32[np.ndarray, "resamples images"], names: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """As `PerImage.metrics`."""
        # Sums of whole numbers below 2**53: exact in float64.
        floats = weights.astype(np.float64)
        right, true, predicted = floats @ self.right, floats @ self.true, floats @ self.predicted
        total, iou = true.sum(axis=1), _quotient(right, true + predicted - right)
        scores = {
            "pixel_accuracy": _quotient(right.sum(axis=1), total),
            "mean_accuracy": mean_where_defined(_quotient(right, true)),
            "mIoU": mean_where_defined(iou),
            "fwIoU": _quotient(np.nansum(true * iou, axis=1), total),
        }
        return {name: scores[name] for name in names}

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """All of it by name, for a file."""
        return {"right": self.right, "true": self.true, "predicted": self.predicted}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Pixels:
        """From what `arrays` gives; KeyError or ValueError where it is something else."""
        counts = arrays["right"], arrays["true"], arrays["predicted"]
        if any(a.ndim != 2 or a.shape != counts[0].shape or a.dtype != np.int64 for a in counts):
            raise ValueError("not one number of pixels an image and class")
        return cls(*counts)


@dataclass(frozen=True, eq=False)
class Boundaries(Contributions):
    """Scores of label maps near boundaries, as `vision_jax.evaluation.segmentation.boundary` defines them.

    Attributes:
        widths: of the bands, ascending.
        f1: boundary F1 of each class, 0..1, NaN where it has no true boundary.
        right: pixels of each class within a true boundary's band to which it was given.
        true: pixels of each class in that band.
        predicted: pixels in that band to which it was given.
        shared: pixels to which it was rightly given, in the bands of both true and predicted boundaries.
        outlined: pixels within a predicted boundary's band to which it was given.
    """

    kind: ClassVar[str] = "boundaries"
    widths: Int64[np.ndarray, " widths"]
    f1: Float64[np.ndarray, "images k"]
    right: Int32[np.ndarray, "images widths k"]
    true: Int32[np.ndarray, "images widths k"]
    predicted: Int32[np.ndarray, "images widths k"]
    shared: Int32[np.ndarray, "images widths k"]
    outlined: Int32[np.ndarray, "images widths k"]

    @property
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""
        scores = "trimap", "trimap_accuracy", "boundary_IoU"
        return "boundary_F1", *(f"{name}/{width}" for name in scores for width in self.widths)

    @property
    def images(self) -> int:
        """How many."""
        return len(self.f1)

    def metrics(
        self, weights: Int32[np.ndarray, "resamples images"], names: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """As `PerImage.metrics`."""
        floats = weights.astype(np.float64)
        defined = (~np.isnan(self.f1)).sum(axis=1).astype(np.float64)
        of_image = np.nansum(self.f1, axis=1) / np.maximum(defined, 1)
        scores = {"boundary_F1": _quotient(floats @ of_image, floats @ (defined > 0))}
        for i, width in enumerate(self.widths):
            if {f"trimap/{width}", f"boundary_IoU/{width}"} & set(names):
                trimap, boundary = self.class_iou(weights, i)
                scores[f"trimap/{width}"] = mean_where_defined(trimap)
                scores[f"boundary_IoU/{width}"] = mean_where_defined(boundary)
            right, true = (floats @ counts[:, i].sum(axis=1) for counts in (self.right, self.true))
            scores[f"trimap_accuracy/{width}"] = _quotient(right, true)
        return {name: scores[name] for name in names}

    def class_iou(
        self, weights: Int32[np.ndarray, "resamples images"], band: int
    ) -> tuple[Float[np.ndarray, "resamples k"], Float[np.ndarray, "resamples k"]]:
        """Each class's IoU in the band of true boundaries, and its boundary IoU.

        Args:
            weights: how often each image occurs in each resample.
            band: its position among the widths.

        Returns:
            Both, 0..1, NaN where the class does not occur there.
        """
        counts = self.right, self.true, self.predicted, self.shared, self.outlined
        # Sums of whole numbers below 2**53: exact in float64.
        floats = weights.astype(np.float64)
        right, true, predicted, shared, outlined = (floats @ some[:, band] for some in counts)
        return _quotient(right, true + predicted - right), _quotient(shared, true + outlined - shared)

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """All of it by name, for a file."""
        return dict(vars(self))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Boundaries:
        """From what `arrays` gives; KeyError or ValueError where it is something else."""
        widths, f1 = arrays["widths"], arrays["f1"]
        counts = [arrays[name] for name in ("right", "true", "predicted", "shared", "outlined")]
        if widths.ndim != 1 or widths.dtype != np.int64 or np.any(np.diff(widths, prepend=0) <= 0):
            raise ValueError("widths of bands do not ascend from 1")
        if f1.ndim != 2 or f1.dtype != np.float64:
            raise ValueError("not one boundary F1 an image and class")
        shape = len(f1), len(widths), f1.shape[1]
        if any(some.shape != shape or some.dtype != np.int32 for some in counts):
            raise ValueError("not one number of pixels an image, band and class")
        return cls(widths, f1, *counts)


@dataclass(frozen=True, eq=False)
class CocoMatches(Contributions):
    """COCO's AP and AR; see `match_detections`.

    Attributes:
        matched: by kind of IoU (box, mask, boundary), in the four ranges of area, at the ten thresholds.
    """

    kind: ClassVar[str] = "coco"
    matched: Mapping[str, MatchedDetections]

    def __post_init__(self):
        if len({each.wanted.shape[1] for each in self.matched.values()}) != 1:
            raise ValueError("kinds of IoU of different numbers of images")
        if any(name not in _MEASURES or m.right.shape[1:] != (4, 10) for name, m in self.matched.items()):
            raise ValueError("not COCO's kinds of IoU, ranges of area and thresholds")

    @property
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""
        known = [_MEASURES[measure] for measure in self.matched]
        return tuple(prefix + name for prefix, names in known for name in names)

    @property
    def images(self) -> int:
        """How many."""
        return next(iter(self.matched.values())).wanted.shape[1]

    def metrics(
        self, weights: Int32[np.ndarray, "resamples images"], names: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """As `PerImage.metrics`."""
        metrics = {}
        for measure, matched in self.matched.items():
            prefix, known = _MEASURES[measure]
            chosen = [name for name in known if prefix + name in names]
            for area in sorted({_AP[name][1] for name in chosen if name in _AP}):
                wanted = {name: _AP[name][0] for name in chosen if name in _AP and _AP[name][1] == area}
                few = [iou for iou in wanted.values() if iou is not None]
                ious = few if len(few) == len(wanted) else list(range(10))
                ap = matched.average_precision(weights, fraction_of_101_recalls, area, ious)
                for name, iou in wanted.items():
                    values = ap if iou is None else ap[:, :, ious.index(iou)]
                    metrics[prefix + name] = mean_where_defined(values)
            for name in chosen:
                if name in _AR:
                    metrics[prefix + name] = mean_where_defined(matched.recall(weights, _AR[name]))
        return metrics

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """All of it by name, for a file."""
        return {
            f"{measure}/{name}": array
            for measure, matched in self.matched.items()
            for name, array in matched.arrays().items()
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> CocoMatches:
        """From what `arrays` gives; KeyError or ValueError where it is something else."""
        return cls({name: MatchedDetections.of(part) for name, part in by_prefix(arrays).items()})


@dataclass(frozen=True, eq=False)
class VocMatches(Contributions):
    """VOC's mean average precisions, of detections matched at one IoU threshold."""

    kind: ClassVar[str] = "voc"
    matched: MatchedDetections

    @property
    def names(self) -> tuple[str, ...]:
        """Of its metrics."""
        return tuple(_VOC)

    @property
    def images(self) -> int:
        """How many."""
        return self.matched.wanted.shape[1]

    def metrics(
        self, weights: Int32[np.ndarray, "resamples images"], names: Sequence[str]
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """As `PerImage.metrics`."""
        return {
            name: mean_where_defined(self.matched.average_precision(weights, _VOC[name])) for name in names
        }

    def arrays(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """All of it by name, for a file."""
        return self.matched.arrays()

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> VocMatches:
        """From what `arrays` gives; KeyError or ValueError where it is something else."""
        return cls(MatchedDetections.of(arrays))


def by_prefix(arrays: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Groups arrays by what stands before the first slash of their names."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        folder, _, rest = name.partition("/")
        groups.setdefault(folder, {})[rest] = array
    return groups


def _quotient(part: Float[np.ndarray, "*n"], whole: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The quotient of two arrays of one shape; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
