"""Images with a label map each, as pairs of files: what several formats of segmentation data hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from vision_jax.data.annotations.label_map_check import MapCounts, check_training_maps, warn_label_maps
from vision_jax.data.annotations.label_maps import to_labels
from vision_jax.data.codecs.images import read_image, read_indices, read_size


class LabelMapPairs:
    """Images with their label maps: a `SegmentationSource`.

    Attributes:
        classes: class names, in label order.
    """

    classes: tuple[str, ...]

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        classes: tuple[str, ...],
        meaning: Mapping[int, int],
        advice: str = "name them in a classes.txt, or add ?void={} to the folder if that is void",
        colors: UInt8[np.ndarray, "n 3"] | None = None,
        by_color: bool = False,
    ) -> None:
        """Takes pairs of files.

        Args:
            pairs: (image, label map) of each example.
            classes: class names in label order.
            meaning: {stored index: label}, -1 for void; other indices are errors when met.
            advice: what to do about those, `{}` standing for the first.
            colors: of the indices, by which label maps stored as RGB are read; None refuses them.
            by_color: whether palette images, and gray ones of larger values than there are classes, are read
                by their colors too, where all of these stand for indices.
        """
        self.classes = classes
        self._pairs = tuple(pairs)
        self._meaning = dict(meaning)
        self._advice = advice
        self._colors = colors
        self._by_color = by_color

    def __len__(self) -> int:
        return len(self._pairs)

    def files(self) -> list[Path]:
        """Every image and its label map."""
        return [path for pair in self._pairs for path in pair]

    def name(self, index: int) -> str:
        """The image file's name."""
        return self._pairs[index][0].name

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels.

        Raises:
            UserError: the file is unreadable, or its size is not that of the label map.
        """
        image, labels = self._pairs[index]
        return read_image(image, read_size(labels, upright=False), whose=f"its label map {labels}")

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """The label map: int32, 0..K-1, -1 where void.

        Raises:
            UserError: the file is unreadable, or holds an index that means nothing.
        """
        return to_labels(self._stored(index), self._meaning, str(self._pairs[index][1]), self._advice)

    def counts(self) -> MapCounts:
        """What occurs in some of the label maps; reads them."""
        return MapCounts.of(len(self), self._stored, self._meaning)

    def _stored(self, index: int) -> Int[np.ndarray, "h w"]:
        """A label map's indices as stored, int32, 0 or more.

        Raises:
            UserError: the file is unreadable.
        """
        return read_indices(self._pairs[index][1], self._colors, self._by_color)


def check_label_maps(
    train: LabelMapPairs, val: LabelMapPairs, where: str, named: bool = True
) -> tuple[LabelMapPairs, LabelMapPairs]:
    """Looks at some label maps of both splits, and returns the splits.

    Args:
        train, val: the splits.
        where: the data set, for messages.
        named: whether the data name their classes.

    Raises:
        UserError: the training split has nothing to learn (`vision_jax.data.annotations.label_map_check`).
    """
    check_training_maps(train.counts(), train.classes, f"{where}, training split", named)
    if val is not train:
        warn_label_maps(val.counts(), val.classes, f"{where}, evaluation split", named)
    return train, val
