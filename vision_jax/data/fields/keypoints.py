"""Keypoints of objects: the joints of a person, the corners of a thing (Lin et al. 2014: COCO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32

from vision_jax.data.fields.field import CropWindow, Size
from vision_jax.data.fields.objects import PerObject


@dataclass(frozen=True)
class Keypoints(PerObject):
    """K named points of each object.

    Attributes:
        points: float32, (x, y) in pixels of the image as it is now.
        visibility: int32, as in COCO: 0 not labeled, or outside the image; 1 labeled and hidden; 2 visible.
        mirror: for each keypoint the one that it becomes in a mirror, its left or right counterpart; itself
            where it has none. Applied twice it changes nothing.
    """

    points: Float[np.ndarray, "n k 2"]
    visibility: Int[np.ndarray, "n k"]
    mirror: tuple[int, ...]

    def __post_init__(self) -> None:
        count = range(self.points.shape[1])
        if sorted(self.mirror) != list(count) or any(self.mirror[self.mirror[k]] != k for k in count):
            raise ValueError(f"mirror is {self.mirror}: not {len(count)} keypoints in pairs or by themselves")

    def select(self, keep: Bool[np.ndarray, " n"]) -> Keypoints:
        """The keypoints of the objects that are kept."""
        return replace(self, points=self.points[keep], visibility=self.visibility[keep])

    def flip_horizontal(self, size: Size) -> Keypoints:
        """Mirrors left and right: a left hand becomes a right one."""
        order = list(self.mirror)
        points = self.points[:, order]
        points = np.stack([size[1] - points[..., 0], points[..., 1]], axis=-1)
        return replace(self, points=points, visibility=self.visibility[:, order])

    def flip_vertical(self, size: Size) -> Keypoints:
        """Mirrors top and bottom: a reflection as well, so that a left hand becomes a right one."""
        order = list(self.mirror)
        points = self.points[:, order]
        points = np.stack([points[..., 0], size[0] - points[..., 1]], axis=-1)
        return replace(self, points=points, visibility=self.visibility[:, order])

    def resize(self, old: Size, new: Size) -> Keypoints:
        """Coordinates times the exact ratios."""
        ratios = np.array([new[1] / old[1], new[0] / old[0]])
        return replace(self, points=(self.points * ratios).astype(np.float32))

    def crop(self, window: CropWindow) -> Keypoints:
        """Points in pixels of the window; those outside it are no longer labeled."""
        points = self.points - np.array([window.left, window.top], np.float32)
        inside = ((points >= 0) & (points <= np.array([window.width, window.height]))).all(-1)
        return replace(self, points=points, visibility=np.where(inside, self.visibility, 0).astype(np.int32))

    @staticmethod
    def stack(
        keypoints: Sequence[Keypoints], max_objects: int, batch_size: int
    ) -> tuple[Float32[np.ndarray, "b n k 2"], Int32[np.ndarray, "b n k"]]:
        """Pads points and visibility with 0.

        Args:
            keypoints: of at least one and at most `batch_size` images.
            max_objects: N, at least the objects of each image.
            batch_size: B.

        Returns:
            Points and visibility.
        """
        count = len(keypoints[0].mirror)
        points = np.zeros((batch_size, max_objects, count, 2), np.float32)
        visibility = np.zeros((batch_size, max_objects, count), np.int32)
        for i, one in enumerate(keypoints):
            points[i, : len(one.points)] = one.points
            visibility[i, : len(one.visibility)] = one.visibility
        return points, visibility
