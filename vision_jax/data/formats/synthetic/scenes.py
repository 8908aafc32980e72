"""Scenes that need no data: shapes and handwritten digits on textured, cluttered grounds.

Each scene is a function of (seed, index) and nothing else. Later objects lie over earlier ones and hide up to
half of each, never more. Boxes are the tight boxes of the exact visible masks, areas are the masks' pixels; a
mask holds the pixels whose centers are inside the shape and not inside a later one. Color and texture are
sampled without regard to the class. Ones and noughts are left out of the digits in scenes: turned and filled,
they cannot be told from rectangles and rings.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Int, UInt8

from vision_jax.data.formats.synthetic.digits import load_digits
from vision_jax.data.formats.synthetic.shapes import CLASSES, Placed, random_shape, rasterize
from vision_jax.data.formats.synthetic.textures import background, fill, light_and_noise
from vision_jax.data.records import ClassificationRecord, DetectionRecord
from vision_jax.types import UserError

_TRIES = 12


@dataclass(frozen=True)
class _Layout:
    """Where the objects of a scene are.

    Attributes:
        labels: the class of each.
        placed: each one's field.
        owner: which object is seen at each pixel, -1 for the ground.
    """

    labels: list[int]
    placed: list[Placed]
    owner: Int[np.ndarray, "h w"]


class SyntheticScenes:
    """A detection source of rendered scenes; train and validation splits differ by their seed.

    Can be pickled; keeps records, which are small, but no pictures.

    Attributes:
        classes: the shapes' names.
        max_objects: the most objects in a scene.
    """

    classes: tuple[str, ...] = CLASSES

    def __init__(
        self,
        length: int,
        seed: int = 0,
        canvas: tuple[int, int] = (256, 256),
        objects: tuple[int, int] = (1, 8),
        size: tuple[float, float] = (16.0, 128.0),
        max_hidden: float = 0.5,
    ):
        """Renders nothing yet.

        Args:
            length: scenes in the split.
            seed: at least 0; another seed gives other scenes.
            canvas: (height, width) of every scene.
            objects: fewest and most objects, uniform; one that finds no room is left out, never the first.
            size: least and greatest length of the longer side of an object's box before others hide a part
                of it, in pixels, log-uniform.
            max_hidden: the largest fraction of an object that later ones may hide, below 1.
        """
        if length < 0 or not 1 <= objects[0] <= objects[1]:
            raise UserError(f"synthetic scenes: length={length}, objects={objects}: give 1 <= fewest <= most")
        if not 8 <= size[0] <= size[1] <= min(canvas):
            raise UserError(f"synthetic scenes: size={size}: give 8 <= least <= greatest <= {min(canvas)}")
        if not 0 <= max_hidden < 1:
            raise UserError(f"synthetic scenes: max_hidden={max_hidden}: give 0 or more, less than 1")
        self.max_objects = objects[1]
        self._length = length
        self._seed = seed
        self._canvas = canvas
        self._objects = objects
        self._size = size
        self._max_hidden = max_hidden
        pictures, numbers = load_digits()
        self._digits = pictures[numbers > 1]
        self._records: dict[int, DetectionRecord] = {}

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"SyntheticScenes({self._length}, seed={self._seed})"

    def _layout(self, index: int) -> _Layout:
        """Samples a scene's objects, each where it hides no earlier one too far; tries each a few times.

        Raises:
            IndexError: there is no such scene.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of {self._length}")
        rng = np.random.default_rng([self._seed, index, 0])
        layout = _Layout([], [], np.full(self._canvas, -1, np.int16))
        areas: list[int] = []
        low, high = np.log(self._size)
        for _ in range(rng.integers(self._objects[0], self._objects[1] + 1)):
            label = int(rng.integers(len(self.classes)))
            shape = random_shape(self.classes[label], rng, self._digits)
            for _ in range(_TRIES):
                scale, turn, x, y = rng.random(4)
                size = float(np.exp(low + (high - low) * scale))
                placed = rasterize(shape, size, 2 * np.pi * turn, (x, y), self._canvas)
                if self._hides_too_much(layout, areas, placed):
                    continue
                layout.owner[placed.window][placed.inside] = len(layout.placed)
                layout.labels.append(label)
                layout.placed.append(placed)
                areas.append(int(np.count_nonzero(placed.inside)))
                break
        return layout

    def _hides_too_much(self, layout: _Layout, areas: list[int], placed: Placed) -> bool:
        """Whether an object would leave less of an earlier one visible than `max_hidden` allows.

        Args:
            layout: of the objects before it.
            areas: their pixels before any was hidden.
            placed: the object.
        """
        covered = layout.owner[placed.window][placed.inside]
        newly_hidden = np.bincount(covered[covered >= 0], minlength=len(areas))
        for earlier in np.flatnonzero(newly_hidden):
            visible = np.count_nonzero(layout.owner[layout.placed[earlier].window] == earlier)
            if visible - newly_hidden[earlier] < (1 - self._max_hidden) * areas[earlier]:
                return True
        return False

    def record(self, index: int) -> DetectionRecord:
        """Tight boxes and areas of the visible masks."""
        if index not in self._records:
            self._records[index] = self._describe(index, self._layout(index))
        return self._records[index]

    def _describe(self, index: int, layout: _Layout) -> DetectionRecord:
        """The record of a layout: tight boxes, float64 in pixels, and areas of the visible masks."""
        boxes, areas = [], []
        for number, placed in enumerate(layout.placed):
            visible = layout.owner[placed.window] == number
            rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
            boxes.append(
                [
                    placed.left + columns[0],
                    placed.top + rows[0],
                    placed.left + columns[-1] + 1,
                    placed.top + rows[-1] + 1,
                ]
            )
            areas.append(np.count_nonzero(visible))
        return DetectionRecord(
            id=index,
            name=f"scene_{index:06d}",
            height=self._canvas[0],
            width=self._canvas[1],
            boxes=np.array(boxes, np.float64),
            labels=np.array(layout.labels, np.int32),
            ignore=np.zeros(len(boxes), bool),
            area=np.array(areas, np.float64),
        )

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The rendered scene, RGB."""
        layout = self._layout(index)
        if index not in self._records:
            self._records[index] = self._describe(index, layout)
        rng = np.random.default_rng([self._seed, index, 1])
        picture, ground = background(*self._canvas, rng)
        colors = [ground]
        for placed in layout.placed:
            height, width = placed.distance.shape
            texture, color = fill(height, width, float(max(height, width) - 2), np.array(colors), rng)
            colors.append(color)
            part = picture[placed.window]
            part += cv2.merge([placed.coverage] * 3) * (texture - part)
        return light_and_noise(picture, rng)

    def masks(self, index: int) -> Bool[np.ndarray, "n h w"]:
        """The exact visible mask of each object, in the record's order; no pixel is in two."""
        layout = self._layout(index)
        return layout.owner[None] == np.arange(len(layout.placed))[:, None, None]

    def label_map(self, index: int) -> Int[np.ndarray, "h w"]:
        """int32: the class of the object seen at each pixel, -1 for the ground."""
        layout = self._layout(index)
        return np.array([*layout.labels, -1], np.int32)[layout.owner]

    def segmentation(self) -> SyntheticSegmentation:
        """The same scenes with a label for each pixel."""
        return SyntheticSegmentation(self)

    def classification(self) -> SyntheticClassification:
        """The same scenes with one label each: that of the first object, which others should not hide."""
        return SyntheticClassification(self)


class SyntheticClassification:
    """Rendered scenes as a classification source, for scenes of one object.

    Attributes:
        classes: the shapes' names.
    """

    def __init__(self, scenes: SyntheticScenes):
        self._scenes = scenes
        self.classes: tuple[str, ...] = scenes.classes

    def __len__(self) -> int:
        return len(self._scenes)

    def record(self, index: int) -> ClassificationRecord:
        scene = self._scenes.record(index)
        return ClassificationRecord(index, scene.name, int(scene.labels[0]))

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The rendered scene, RGB."""
        return self._scenes.image(index)


class SyntheticSegmentation:
    """Rendered scenes as a segmentation source: class 0 is the background, the shapes follow.

    Attributes:
        classes: background, then the shapes' names.
    """

    def __init__(self, scenes: SyntheticScenes):
        self._scenes = scenes
        self.classes: tuple[str, ...] = ("background", *scenes.classes)

    def __len__(self) -> int:
        return len(self._scenes)

    def name(self, index: int) -> str:
        return f"scene_{index:06d}"

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The rendered scene, RGB."""
        return self._scenes.image(index)

    def labels(self, index: int) -> Int[np.ndarray, "h w"]:
        """int32, 0 for the background, 1.. for the shapes; nothing is void."""
        return self._scenes.label_map(index) + 1
