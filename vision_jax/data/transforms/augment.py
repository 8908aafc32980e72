"""Random changes of training images: flips, resizing, crops, color.

The frozen dataclasses sample their numbers from a generator, `(example, rng) -> example`, and can be pickled.
What moves with the pixels, and how exactly: `vision_jax.data.fields`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import UInt8

from vision_jax.data.transforms.geometry import (
    Canvas,
    Example,
    crop,
    fit_factor,
    flip_horizontal,
    flip_vertical,
    scale_by,
    target_canvas,
)
from vision_jax.types import Fraction, Positive, Rising, UserError, check_fields

# Luma and two chroma axes (NTSC's YIQ): hue turns and saturation scales the chroma, luma is kept.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def adjust_color(
    image: UInt8[np.ndarray, "h w 3"],
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Changes all colors by one affine map, rounded and clipped once at the end.

    Args:
        image: RGB.
        brightness: factor on every channel.
        contrast: factor on the distance from the image's mean luma.
        saturation: factor on the chroma; 0 is gray.
        hue: turn of the chroma, in turns (0.5 is the opposite color); luma is kept.

    Returns:
        The changed image.
    """
    turn = 2 * np.pi * hue
    chroma = saturation * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.eye(3)
    middle[1:, 1:] = chroma
    colors = np.linalg.solve(_YIQ, middle @ _YIQ)
    mean_luma = float(_YIQ[0] @ np.array(cv2.mean(image)[:3]))
    matrix = brightness * contrast * colors
    offset = np.full((3, 1), brightness * (1 - contrast) * mean_luma)
    return cv2.transform(image, np.concatenate([matrix, offset], axis=1))


@dataclass(frozen=True)
class FitCanvas:
    """Resizes an image so that it just fits its canvas, aspect kept; nothing is random.

    Attributes:
        canvas: (height, width); turned to the image's own orientation where examples turn it.
    """

    canvas: Canvas

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        """The resized example; `rng` is not used."""
        return scale_by(example, fit_factor(example, target_canvas(example, self.canvas)))


@dataclass(frozen=True)
class Flip:
    """Mirrors with given probabilities.

    Attributes:
        horizontal: probability of mirroring left and right.
        vertical: probability of mirroring top and bottom.
    """

    horizontal: float = 0.5
    vertical: float = 0.0

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The example, mirrored or not."""
        mirror_x, mirror_y = rng.random(2) < (self.horizontal, self.vertical)
        if mirror_x:
            example = flip_horizontal(example)
        return flip_vertical(example) if mirror_y else example


@dataclass(frozen=True)
class RandomCrop:
    """Cuts out a random rectangle of the image.

    Attributes:
        probability: how often.
        min_area: the rectangle's smallest area, as a fraction of the image's; uniform from there to 1.
        max_stretch: the rectangle's aspect is the image's times a factor in 1/max_stretch..max_stretch,
            log-uniform.
        min_visible: an object is dropped when less than this fraction of its box is left.
    """

    probability: float = 0.5
    min_area: float = 0.3
    max_stretch: float = 4 / 3
    min_visible: float = 0.25

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The part, or the whole example."""
        chance, area, stretch, top, left = rng.random(5)
        if chance >= self.probability:
            return example
        rows, columns = example.size
        fraction = sqrt(self.min_area + (1 - self.min_area) * area)
        stretch = self.max_stretch ** (2 * stretch - 1)
        height = min(rows, max(1, round(rows * fraction / sqrt(stretch))))
        width = min(columns, max(1, round(columns * fraction * sqrt(stretch))))
        return crop(
            example,
            int(top * (rows - height + 1)),
            int(left * (columns - width + 1)),
            height,
            width,
            self.min_visible,
        )


@dataclass(frozen=True)
class ScaleJitter:
    """Resizes to the canvas times a random factor; what then sticks out is cut off at a random position.

    The result lies at the canvas's top left, as every batch's content does.

    Attributes:
        canvas: (height, width); turned to the image's own orientation where examples turn it.
        scale: least and greatest factor, log-uniform; 1 just fits the canvas.
        min_visible: an object is dropped when less than this fraction of its box is left.
    """

    canvas: Canvas
    scale: tuple[float, float] = (1.0, 1.0)
    min_visible: float = 0.25

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The example, no larger than its canvas."""
        where, top, left = rng.random(3)
        canvas = target_canvas(example, self.canvas)
        low, high = self.scale
        factor = fit_factor(example, canvas) * low * (high / low) ** where
        example = scale_by(example, factor)
        rows, columns = example.size
        height, width = min(rows, canvas[0]), min(columns, canvas[1])
        if (height, width) == (rows, columns):
            return example
        return crop(
            example,
            int(top * (rows - height + 1)),
            int(left * (columns - width + 1)),
            height,
            width,
            self.min_visible,
        )


@dataclass(frozen=True)
class ColorJitter:
    """Random brightness, contrast, saturation and hue.

    Attributes:
        strength: s in 0..1: brightness, contrast and saturation by factors in 1 - s..1 + s, hue by up to
            s / 8 of a turn either way; uniform.
    """

    strength: float = 0.4

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with other colors; what is annotated is as it was."""
        b, c, s, h = self.strength * (2 * rng.random(4) - 1)
        pixels = adjust_color(example.image.pixels, 1 + b, 1 + c, 1 + s, h / 8)
        return replace(example, image=replace(example.image, pixels=pixels))


@dataclass(frozen=True)
class Augment:
    """How training images are varied.

    Attributes:
        hflip: probability of mirroring left and right.
        vflip: probability of mirroring top and bottom.
        scale: least and greatest factor of the image's size, relative to just fitting the canvas;
            log-uniform.
        crop: probability of cutting out a random part before that.
        crop_area: smallest area of that part, as a fraction of the image's.
        min_visible: an object is dropped when less than this fraction of its box is left by a cut.
        color: strength of color jitter, 0 (none) to 1.
    """

    hflip: Fraction = 0.5
    vflip: Fraction = 0.0
    scale: Annotated[tuple[Positive, Positive], Rising()] = (1.0, 1.0)
    crop: Fraction = 0.0
    crop_area: Fraction = 0.3
    min_visible: Fraction = 0.25
    color: Fraction = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "augment")
        if self.crop and not self.crop_area:
            raise UserError("augment.crop_area is 0: give the smallest fraction of the image to cut out")


NO_AUGMENT = Augment(hflip=0.0)


@dataclass(frozen=True)
class TrainTransform:
    """What a training image goes through: a part that is always the same, and a random part.

    Attributes:
        augment: how images are varied.
        canvas: (height, width); turned to the image's own orientation where examples turn it.
    """

    augment: Augment
    canvas: Canvas

    def prepare(self, example: Example) -> Example:
        """Shrinks to the largest size that the random part may ask for; worth caching, never needed.

        Without scale jitter and crops this is the size that just fits the canvas, bigger or smaller.
        """
        augment = self.augment
        zoom = augment.scale[1] / (sqrt(augment.crop_area) if augment.crop else 1.0)
        fit = fit_factor(example, target_canvas(example, self.canvas))
        fixed = augment.scale == (1.0, 1.0) and not augment.crop
        return scale_by(example, fit if fixed else min(1.0, fit * zoom))

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The random part, of an example that `prepare` gave: crop, scale, flips and color, in this order."""
        augment = self.augment
        if augment.crop:
            cut = RandomCrop(augment.crop, augment.crop_area, min_visible=augment.min_visible)
            example = cut(example, rng)
        example = ScaleJitter(self.canvas, augment.scale, augment.min_visible)(example, rng)
        example = Flip(augment.hflip, augment.vflip)(example, rng)
        return ColorJitter(augment.color)(example, rng) if augment.color else example


def train_transform(augment: Augment, canvas: Canvas) -> TrainTransform:
    """The transform of training images: `prepare` once, then call with a generator each time."""
    return TrainTransform(augment, canvas)
