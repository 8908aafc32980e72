"""Outlines of the synthetic scenes' objects: seven classes of shape as signed distances.

A shape lives in a frame of its own with y down and, placed in an image by a size, an angle and a position,
gives at each pixel's center its distance to the outline (negative inside). Pixels with a negative distance
are its mask, exactly: a pixel belongs to a mask when its center is inside. The same distance makes the
rendered edge smooth. Handwritten digits are the 8x8 pictures of the UCI optical recognition set (Alpaydin and
Kaynak 1998) that scikit-learn ships, scaled up smoothly and cut at a level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

CLASSES = ("circle", "triangle", "rectangle", "star", "ring", "cross", "digit")

Field = Callable[[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]], Any]

_CELL = 8  # pixels of the enlarged digit per pixel of the 8x8 one
_LEVEL = 6.5  # intensity, of 16, at which a digit's stroke ends


@dataclass(frozen=True)
class Shape:
    """An outline in its own frame.

    Attributes:
        distance: (x, y) -> signed distance to the outline in the frame's units, negative inside; beyond sharp
            corners it may fall short of the distance.
        hull: points whose bounding box is the shape's under any rotation; under none where `turns` is False.
        turns: whether rotation changes it.
    """

    distance: Field
    hull: Float[np.ndarray, "n 2"]
    turns: bool = True


@dataclass(frozen=True)
class Placed:
    """A shape in an image.

    Attributes:
        distance: signed distance in pixels at the centers of a patch's pixels.
        top, left: the patch's position in the image, in pixels.
        center: (x, y) of the shape's bounding box in the image.
    """

    distance: Float[np.ndarray, "h w"]
    top: int
    left: int
    center: tuple[float, float]

    @property
    def window(self) -> tuple[slice, slice]:
        """The patch's rows and columns in the image."""
        height, width = self.distance.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def inside(self) -> Bool[np.ndarray, "h w"]:
        """The patch's pixels whose centers are inside."""
        return self.distance < 0

    @property
    def coverage(self) -> Float[np.ndarray, "h w"]:
        """How much of each pixel is covered, in 0..1, for rendering."""
        return np.clip(0.5 - self.distance, 0, 1)


def _circle() -> Shape:
    """Of radius 1."""
    return Shape(lambda x, y: np.hypot(x, y) - 1, np.array([[-1.0, -1.0], [1.0, 1.0]]), turns=False)


def _ring(hole: float) -> Shape:
    """Of outer radius 1; `hole`, in 0..1, is the inner one."""
    middle, half = (1 + hole) / 2, (1 - hole) / 2
    return Shape(
        lambda x, y: np.abs(np.hypot(x, y) - middle) - half, np.array([[-1.0, -1.0], [1.0, 1.0]]), turns=False
    )


def _corners(half_width: float, half_height: float) -> Float[np.ndarray, "4 2"]:
    """(x, y) of a rectangle's corners around the origin."""
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [half_width, half_height]


def _rectangle(aspect: float) -> Shape:
    """Two units wide; `aspect` is its height over its width."""
    return Shape(lambda x, y: np.maximum(np.abs(x) - 1, np.abs(y) - aspect), _corners(1, aspect))


def _cross(arm: float) -> Shape:
    """Two units wide and high; `arm` is half an arm's width."""

    def distance(x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        x, y = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(x - 1, y - arm), np.maximum(y - 1, x - arm))

    return Shape(distance, np.concatenate([_corners(1, arm), _corners(arm, 1)]))


def _triangle(height: float, lean: float) -> Shape:
    """Two units wide; `lean` is the x of its tip, 0 where it is isosceles."""
    corners = np.array([[-1.0, height / 2], [1.0, height / 2], [lean, -height / 2]])
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1, keepdims=True)
    inner = np.sign(np.sum(normals * (corners.mean(0) - corners), axis=1, keepdims=True))
    normals = (-inner * normals).astype(np.float32)
    offsets = np.sum(normals * corners, axis=1).astype(np.float32)

    def distance(x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        a, b, c = (nx * x + ny * y - o for (nx, ny), o in zip(normals, offsets, strict=True))
        return np.maximum(np.maximum(a, b), c)

    return Shape(distance, corners)


def _star(waist: float) -> Shape:
    """Five tips at radius 1; `waist`, in 0..1, is the radius of its inner corners."""
    # By symmetry one tenth of the plane is enough, from a tip (angle 0) to the next inner corner (angle 36).
    inner = waist * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    edge = inner - [1.0, 0.0]
    nx, ny = (np.array([edge[1], -edge[0]]) / np.linalg.norm(edge)).astype(np.float32)
    offset = nx
    tips = 2 * np.pi / 5 * np.arange(5)

    def distance(x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        radius = np.hypot(x, y)
        angle = np.arctan2(y, x) * np.float32(5 / (2 * np.pi))
        angle = np.abs(angle - np.rint(angle)) * np.float32(2 * np.pi / 5)
        return radius * (nx * np.cos(angle) + ny * np.sin(angle)) - offset

    return Shape(distance, np.stack([np.cos(tips), np.sin(tips)], axis=1))


def _digit(picture: UInt8[np.ndarray, "8 8"]) -> Shape:
    """A handwritten digit, intensities 0..16, 2 units on its longer side; on its outline ink is `_LEVEL`."""
    padded = np.pad(picture.astype(np.float32), 2)
    side = padded.shape[0] * _CELL
    ink = cv2.resize(padded, (side, side), interpolation=cv2.INTER_CUBIC)
    ys, xs = np.nonzero(ink > _LEVEL)
    middle_x, middle_y = (xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2
    half = max(xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()) / 2
    outline = cv2.convexHull(np.stack([xs, ys], axis=1).astype(np.int32))[:, 0]
    points = np.concatenate([outline + corner for corner in ([0, 0], [1, 0], [0, 1], [1, 1])])
    hull = (points - [middle_x, middle_y]) / half
    # A stroke's edge rises from nothing to full ink over about one and a half of the picture's pixels.
    unit = np.float32(1.5 * _CELL / 16 / half)

    def distance(x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        columns = (x * half + middle_x - 0.5).astype(np.float32)
        rows = (y * half + middle_y - 0.5).astype(np.float32)
        return (_LEVEL - cv2.remap(ink, columns, rows, cv2.INTER_LINEAR)) * unit

    return Shape(distance, hull)


def random_shape(name: str, rng: np.random.Generator, digits: UInt8[np.ndarray, "n 8 8"]) -> Shape:
    """Samples a shape of a class.

    Args:
        name: one of `CLASSES`.
        rng: decides its proportions.
        digits: the handwritten digits to choose from, intensities 0..16.

    Returns:
        The shape, in its own frame.
    """
    a, b = rng.random(2)
    match name:
        case "circle":
            return _circle()
        case "triangle":
            return _triangle(height=1.3 + 0.9 * a, lean=0.8 * b - 0.4)
        case "rectangle":
            return _rectangle(aspect=0.4 + 0.6 * a)
        case "star":
            return _star(waist=0.4 + 0.1 * a)
        case "ring":
            return _ring(hole=0.45 + 0.25 * a)
        case "cross":
            return _cross(arm=0.25 + 0.13 * a)
        case "digit":
            return _digit(digits[int(a * len(digits))])
    raise ValueError(f"no shape is called {name}")


def rasterize(
    shape: Shape, size: float, angle: float, where: tuple[float, float], canvas: tuple[int, int]
) -> Placed:
    """Puts a shape into an image, wholly inside.

    Args:
        shape: in its own frame.
        size: the longer side of its bounding box in the image, in pixels.
        angle: of its rotation, in radians.
        where: (x, y) in 0..1, from the leftmost (topmost) position possible to the rightmost (lowest).
        canvas: (height, width) of the image.

    Returns:
        The field on the patch that holds the shape.
    """
    cos, sin = (np.cos(angle), np.sin(angle)) if shape.turns else (1.0, 0.0)
    turned = shape.hull @ np.array([[cos, sin], [-sin, cos]])
    low, high = turned.min(0), turned.max(0)
    scale = size / (high - low).max()
    extent = (high - low) * scale
    corner = np.array(where) * (np.array(canvas[::-1]) - extent)
    origin = corner - low * scale
    left, top = np.maximum(np.floor(corner).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corner + extent).astype(int) + 1, canvas[::-1])
    x = ((np.arange(left, right) + 0.5 - origin[0]) / scale).astype(np.float32)
    y = ((np.arange(top, bottom) + 0.5 - origin[1]) / scale).astype(np.float32)
    own_x = np.float32(cos) * x[None, :] + np.float32(sin) * y[:, None]
    own_y = np.float32(cos) * y[:, None] - np.float32(sin) * x[None, :]
    distance = shape.distance(own_x, own_y) * np.float32(scale)
    middle = corner + extent / 2
    return Placed(distance, int(top), int(left), (float(middle[0]), float(middle[1])))
