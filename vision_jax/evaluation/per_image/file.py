"""What each test image contributes to an evaluation's metrics, kept in the run folder.

From it the metrics of any multiset of the images follow without model, data or device: those of a
bootstrap's resamples, which `vision_jax.evaluation.bootstrap` compares.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Real

from vision_jax.evaluation.per_image.kinds import Contributions, by_prefix, contributions_of
from vision_jax.types import UserError


@dataclass(frozen=True, eq=False)
class PerImage:
    """What each image of one evaluation contributes to its metrics.

    Attributes:
        ids: of the images, in the order in which weights are given.
        parts: one for each evaluator.
    """

    ids: Int[np.ndarray, " images"]
    parts: tuple[Contributions, ...]

    def __post_init__(self):
        if not self.parts or any(part.images != len(self.ids) for part in self.parts):
            raise ValueError("ids and contributions of images differ in number")

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics it can give."""
        return tuple(name for part in self.parts for name in part.names)

    def metrics(
        self, weights: Real[np.ndarray, "resamples images"], names: Sequence[str] | None = None
    ) -> dict[str, Float[np.ndarray, " resamples"]]:
        """The metrics of other multisets of the images.

        With all ones they are the evaluator's own. Of detections with equal scores, an image's repetitions
        stand together, as if they had ids next to one another.

        Args:
            weights: how often each image occurs in each resample, whole numbers of at least 0.
            names: of the metrics to compute; all if None.

        Returns:
            By metric, one float64 a resample, NaN where it is not defined.

        Raises:
            ValueError: a metric is not known, or weights are not whole numbers.
        """
        names = self.names if names is None else names
        if unknown := sorted(set(names) - set(self.names)):
            raise ValueError(f"no {', '.join(unknown)} among {', '.join(self.names)}")
        if weights.shape[1] != len(self.ids):
            raise ValueError(f"weights of {weights.shape[1]} images for {len(self.ids)}")
        whole = weights.astype(np.int32)
        if np.any(whole != weights) or whole.min(initial=0) < 0:
            raise ValueError("weights are not numbers of times that an image occurs")
        found: dict[str, np.ndarray] = {}
        for part in self.parts:
            if chosen := [name for name in names if name in part.names]:
                found |= part.metrics(whole, chosen)
        return {name: found[name] for name in names}

    def write(self, path: Path) -> None:
        """Writes it as arrays in numpy's compressed format."""
        arrays = {
            f"{part.kind}/{name}": array for part in self.parts for name, array in part.arrays().items()
        }
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, ids=self.ids, **arrays)


def read_per_image(folder: Path) -> PerImage | None:
    """Reads what the evaluators of one evaluation kept of each image.

    Args:
        folder: a run's, or that of one of its other evaluations.

    Returns:
        All of its files `per_image*.npz` in one; None if there is none.

    Raises:
        UserError: a file cannot be read, holds something else, or is of other images than the rest.
    """
    paths = sorted(folder.glob("per_image*.npz"))
    if not paths:
        return None
    each = [_read(path) for path in paths]
    for path, other in zip(paths, each, strict=True):
        if not np.array_equal(each[0].ids, other.ids):
            raise UserError(f"{path} is of other images than {paths[0].name}: evaluate the run again")
    joined = PerImage(each[0].ids, tuple(part for one in each for part in one.parts))
    if len(set(joined.names)) < len(joined.names):
        raise UserError(f"two of {folder}/per_image*.npz have the same metrics: delete the older one")
    return joined


def _read(path: Path) -> PerImage:
    """What `PerImage.write` wrote.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        ids = arrays.pop("ids")
        if ids.ndim != 1 or ids.dtype.kind != "i":
            raise ValueError("ids are not a list of whole numbers")
        return PerImage(ids, tuple(contributions_of(kind, part) for kind, part in by_prefix(arrays).items()))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        problem = f"{error} is missing or unknown" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path} is not what an evaluation writes ({problem}): evaluate the run again"
        ) from error
