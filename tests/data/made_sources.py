"""Data sets made here, to be written as records, and what holds them against those read back."""

import numpy as np

from vision_jax.data.convert import convert
from vision_jax.data.family import family_named
from vision_jax.data.records import DetectionRecord
from vision_jax.data.storage.encoding import Encoding

PNG = Encoding("png")


class Generated:
    """Images of several sizes; image 2 has no box; boxes and names of odd kinds."""

    classes = ("a", "b", "ü")
    category_ids = (3, 7, 90)

    def __init__(self, length=5):
        self.length = length

    def __len__(self):
        return self.length

    def _size(self, index):
        return ((48, 64), (64, 48), (20, 20), (33, 71), (7, 100))[index]

    def masks(self, index):
        height, width = self._size(index)
        count = 0 if index == 2 else index + 1
        masks = np.random.default_rng([1, index]).random((count, height, width)) < 0.3
        masks[:1] = False
        return masks

    def segmentations(self, index):
        height, width = self._size(index)
        shapes = [[[1.0, 1.5, 30.25, 1.5, 5.0, 6.0], [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]], []]
        shapes = [*shapes, {"size": [height, width], "counts": "runs"}, [], []]
        return shapes[: len(self.masks(index))]

    def record(self, index):
        rng = np.random.default_rng([2, index])
        height, width = self._size(index)
        n = len(self.masks(index))
        corner = rng.uniform(0, 5, (n, 2))
        far = corner + rng.uniform(0.5, 1, (n, 2)) * (np.array([width, height]) - corner)
        return DetectionRecord(
            2**31 - 1 - index,
            f"folder/ü\udcff {index}.jpg",
            height,
            width,
            np.concatenate([corner, far], axis=1),
            rng.integers(0, 3, n).astype(np.int32),
            rng.random(n) < 0.5,
            rng.uniform(1, 1000, n),
        )

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (*self._size(index), 3), np.uint8)


class Maps:
    """Label maps with void and as many classes as are wished."""

    def __init__(self, count, size=(9, 13)):
        self.classes = tuple(f"c{label}" for label in range(count))
        self.size = size

    def __len__(self):
        return 2

    def name(self, index):
        return f"{index}.png"

    def image(self, index):
        return np.random.default_rng(index).integers(0, 255, (*self.size, 3), np.uint8)

    def labels(self, index):
        return np.random.default_rng(index).integers(-1, len(self.classes), self.size).astype(np.int32)


def same_record(one, two):
    """Both records hold the same, to the bit and the dtype."""
    assert (one.id, one.name, one.height, one.width) == (two.id, two.name, two.height, two.width)
    for name in ("boxes", "labels", "ignore", "area"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def written(source, task, out, encoding=PNG):
    """The folder of a source's records, one split for both."""
    convert((source, source), family_named(task), out, encoding, "a test")
    return out
