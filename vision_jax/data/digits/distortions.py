"""Distorted digits (Jaderberg, Simonyan, Zisserman and Kavukcuoglu 2015, section 4.1, appendices A.1 to A.4).

    R     turned by up to 90 degrees either way                                                28 x 28
    RTS   turned by up to 45 degrees, 0.7 to 1.2 times as large, anywhere                      42 x 42
    P     0.75 to 1 times as large, then each corner moved by normal deviates of 5 pixels      42 x 42
    E     bent by a thin-plate spline, 4 x 4 control points moved by normal deviates of 1.5    28 x 28
    T     anywhere                                                                             60 x 60
    TC    anywhere, among six 6 x 6 parts of other digits                                      60 x 60

A digit fills a frame of 28 x 28 pixels, light on black. All changes of a digit are one map from the canvas's
pixels to the frame's, read once, so that nothing is blurred twice; what leaves the canvas is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from vision_jax.data.examples import ClassificationExample
from vision_jax.data.fields.image import Image
from vision_jax.data.sources import ClassificationSource
from vision_jax.ops.sampling import regular_points, thin_plate_spline_weights
from vision_jax.types import NotNegative, Positive, Rising, UserError, Whole, check_fields

FRAME = 28
_PART = 6
_BENT_PER_SIDE = 4
_EVALUATION = 2015  # seeds what is sampled for evaluation, together with an image's id

Digit = UInt8[np.ndarray, "28 28 3"]


@dataclass(frozen=True)
class Distortion:
    """What is sampled for each digit, and how widely. Lengths are in pixels of the canvas.

    Attributes:
        canvas: the image's side, at least a frame's.
        turn: degrees, the most either way.
        scale: least and greatest factor.
        anywhere: whether the frame's middle is at a random position, such that a frame of its own size is
            inside the canvas; else in the canvas's middle.
        corners: standard deviation of each coordinate of each corner of the frame; sampled again where that
            would fold it.
        bend: standard deviation of each coordinate of each control point of a spline.
        distractors: how many parts of other digits lie about.
    """

    canvas: int
    turn: NotNegative = 0.0
    scale: Annotated[tuple[Positive, Positive], Rising()] = (1.0, 1.0)
    anywhere: bool = False
    corners: NotNegative = 0.0
    bend: NotNegative = 0.0
    distractors: Whole = 0

    def __post_init__(self) -> None:
        check_fields(self, "distortion")
        if self.canvas < FRAME:
            raise UserError(f"distortion.canvas is {self.canvas}: a digit takes {FRAME} pixels")


DistortionName = Literal["R", "RTS", "P", "E", "T", "TC"]

DISTORTIONS: dict[DistortionName, Distortion] = {
    "R": Distortion(28, turn=90),
    "RTS": Distortion(42, turn=45, scale=(0.7, 1.2), anywhere=True),
    "P": Distortion(42, scale=(0.75, 1), corners=5),
    "E": Distortion(28, bend=1.5),
    "T": Distortion(60, anywhere=True),
    "TC": Distortion(60, anywhere=True, distractors=6),
}


def framed(image: UInt8[np.ndarray, "h w 3"]) -> Digit:
    """A digit of any size, resized to the frame."""
    return image if image.shape[:2] == (FRAME, FRAME) else cv2.resize(image, (FRAME, FRAME))


@dataclass(frozen=True)
class Distort:
    """Distorts the digits of a source, as a training transform does: `prepare` once, then a sample each time.

    Attributes:
        distortion: what is sampled.
        source: of the digits; distractors are parts of any of them.
    """

    distortion: Distortion
    source: ClassificationSource

    def prepare(self, example: ClassificationExample) -> ClassificationExample:
        """Resizes a digit to the frame."""
        return replace(example, image=Image.original(framed(example.image.pixels)))

    def __call__(self, example: ClassificationExample, rng: np.random.Generator) -> ClassificationExample:
        """Distorts an example that `prepare` brought to the frame: uint8 [canvas, canvas, 3]."""
        another = partial(any_digit, self.source)
        pixels = distort(example.image.pixels, self.distortion, rng, another)[0]
        return replace(example, image=Image.original(pixels))

    def for_evaluation(self, example: ClassificationExample) -> ClassificationExample:
        """The same distortion of the same example each time, so that every run is evaluated on one set."""
        return self(self.prepare(example), evaluation_rng(example.id))


def evaluation_rng(id: int) -> np.random.Generator:
    """The generator of what is sampled for an image in evaluation: the same for one id each time."""
    return np.random.default_rng([_EVALUATION, id])


def any_digit(source: ClassificationSource, rng: np.random.Generator) -> Digit:
    """One of them, in its frame."""
    return framed(source.image(int(rng.integers(len(source)))))


def distort(
    digit: Digit,
    distortion: Distortion,
    rng: np.random.Generator,
    another: Callable[[np.random.Generator], Digit] | None = None,
) -> tuple[UInt8[np.ndarray, "side side 3"], Float[np.ndarray, "2"]]:
    """Samples a distortion and applies it to a digit.

    Args:
        digit: it fills a frame.
        distortion: what is sampled.
        rng: where from.
        another: samples a digit of which a distractor is cut; needed where there are any.

    Returns:
        The image, and (x, y) of the frame's middle on the canvas, in pixels from the canvas's corner.

    Raises:
        ValueError: for distractors without `another`.
    """
    side = distortion.canvas
    slack = (side - FRAME) / 2 if distortion.anywhere else 0.0
    middle = side / 2 + rng.uniform(-slack, slack, 2)
    angle = np.deg2rad(rng.uniform(-distortion.turn, distortion.turn))
    factor = rng.uniform(*distortion.scale)
    turned = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to_canvas = np.eye(3)
    to_canvas[:2, :2] = turned
    to_canvas[:2, 2] = middle - turned @ np.full(2, FRAME / 2)
    if distortion.corners:
        corners = np.array([[0, 0], [FRAME, 0], [FRAME, FRAME], [0, FRAME]], np.float64)
        seen = corners @ turned.T + to_canvas[:2, 2]
        moved = _moved_corners(seen, distortion.corners, rng)
        to_canvas = cv2.getPerspectiveTransform(seen.astype(np.float32), moved.astype(np.float32)) @ to_canvas
    to_frame = np.linalg.inv(to_canvas)
    if distortion.corners or distortion.bend:
        points = _bent_points(to_frame, middle, distortion, rng)
        image = cv2.remap(digit, points, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
    else:  # the same, faster
        to_frame[:2, 2] += to_frame[:2, :2].sum(1) / 2 - 0.5
        image = cv2.warpAffine(
            digit, to_frame[:2], (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
    if distortion.distractors:
        if another is None:
            raise ValueError("distractors are parts of other digits: pass `another`, which samples one")
        for _ in range(distortion.distractors):
            _add_part(image, another(rng), rng)
    return image, middle


def _bent_points(
    to_frame: Float64[np.ndarray, "3 3"],
    middle: Float64[np.ndarray, "2"],
    distortion: Distortion,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "side side 2"]:
    """The position in the frame that each pixel of the canvas reads.

    Args:
        to_frame: the homography from the canvas to the frame, pixels counted from the corner of each.
        middle: (x, y) of the frame's middle on the canvas, in pixels.
        distortion: says how far control points move.
        rng: samples their shifts.

    Returns:
        (x, y) in pixels, counted from the center of the frame's first pixel, as OpenCV's `remap` takes them;
        outside the frame where nothing is seen.
    """
    side = distortion.canvas
    pixels = np.stack([*np.meshgrid(*2 * [np.arange(side) + 0.5]), np.ones((side, side))], -1)
    mapped = pixels @ to_frame.T
    points = mapped[..., :2] / mapped[..., 2:]
    if distortion.bend:
        shifts = rng.normal(0, distortion.bend, (_BENT_PER_SIDE**2, 2))
        points += thin_plate_spline_weights(regular_points(_BENT_PER_SIDE), (side, side)) @ shifts
    # Beyond the horizon of a perspective there is nothing to see.
    before = mapped[..., 2:] * (to_frame[2] @ [*middle, 1]) > 0
    return (np.where(before, points, -FRAME) - 0.5).astype(np.float32)


def _moved_corners(
    corners: Float64[np.ndarray, "4 2"], deviation: float, rng: np.random.Generator
) -> Float64[np.ndarray, "4 2"]:
    """Moves corners at random, again and again until they go around a convex shape in their order.

    Args:
        corners: (x, y) in pixels.
        deviation: standard deviation of each coordinate's shift, in pixels.
        rng: samples the shifts.
    """
    while True:
        moved = corners + rng.normal(0, deviation, corners.shape)
        edges = np.roll(moved, -1, 0) - moved
        after = np.roll(edges, -1, 0)
        if (edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0] > 0).all():
            return moved


def _add_part(image: UInt8[np.ndarray, "side side 3"], digit: Digit, rng: np.random.Generator) -> None:
    """Lays a random part of a digit over the image, in place; of two pixels the lighter is kept.

    Args:
        image: uint8 [side, side, 3].
        digit: uint8 [28, 28, 3].
        rng: samples where the part is cut out and where it goes.
    """
    top, left = rng.integers(FRAME - _PART + 1, size=2)
    row, column = rng.integers(len(image) - _PART + 1, size=2)
    under = image[row : row + _PART, column : column + _PART]
    np.maximum(under, digit[top : top + _PART, left : left + _PART], out=under)
