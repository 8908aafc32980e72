"""Colors and patterns of the synthetic scenes: fills, backgrounds, clutter, light and noise.

All of it is sampled without knowledge of an object's class, so that color and texture say nothing about it.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

PATTERNS = ("flat", "stripes", "checks", "dots", "noise", "gradient")


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Float[np.ndarray, "h w"]:
    """float32 in 0..1, uniform numbers on a grid of `cell` pixels, interpolated bicubically and clipped."""
    grid = rng.random((int(height / cell) + 2, int(width / cell) + 2), dtype=np.float32)
    return np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def pattern(
    kind: str, height: int, width: int, period: float, rng: np.random.Generator
) -> Float[np.ndarray, "h w"]:
    """A pattern at a random angle and phase.

    Args:
        kind: one of `PATTERNS`.
        height: pixels.
        width: pixels.
        period: of its repetition (for noise, the size of its grain), in pixels.
        rng: decides angle and phase.

    Returns:
        float32 in 0..1, how much of the second of two colors there is.
    """
    turn, phase_u, phase_v = rng.random(3)
    if kind == "flat":
        return np.zeros((height, width), np.float32)
    if kind == "noise":
        return _smooth_noise(rng, height, width, max(1.5, period / 3))
    angle = 2 * np.pi * turn
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x = np.arange(width, dtype=np.float32) - width / 2
    y = np.arange(height, dtype=np.float32)[:, None] - height / 2
    u = cos * x + sin * y
    if kind == "gradient":
        return 0.5 + u * np.float32(1 / np.hypot(height, width))
    wave = np.float32(2 * np.pi / period)
    across = np.sin(wave * u + np.float32(6.28 * phase_u))
    if kind == "stripes":
        return np.clip(0.5 + 1.5 * across, 0, 1)
    along = np.sin(wave * (cos * y - sin * x) + np.float32(6.28 * phase_v))
    if kind == "checks":
        return np.clip(0.5 + 4 * across * along, 0, 1)
    return np.clip(2 * (across + along) - 0.8, 0, 1)


def _mix(
    amount: Float[np.ndarray, "h w"], first: Float[np.ndarray, "3"], second: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "h w 3"]:
    """Blends two RGB colors pixel by pixel: `amount`, float32 in 0..1, is how much there is of the second."""
    return cv2.transform(amount, np.stack([second - first, first], axis=1))


def _near(color: Float[np.ndarray, "3"], distance: float, rng: np.random.Generator) -> Float[np.ndarray, "3"]:
    """A color about so far from a given one, on the side where there is more room."""
    step = rng.standard_normal(3).astype(np.float32)
    step *= np.float32(distance / np.linalg.norm(step))
    sides = np.stack([color + step, color - step])
    inside = np.clip(sides, 0, 255)
    return inside[np.abs(sides - inside).sum(1).argmin()]


def fill(
    height: int, width: int, size: float, others: Float[np.ndarray, "n 3"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "3"]]:
    """An object's texture, in a color that stands out from what is there.

    Args:
        height: pixels.
        width: pixels.
        size: of the object, which the pattern's period follows.
        others: mean colors of the background and of the objects below, 0..255.
        rng: decides kind, colors, angle and phase.

    Returns:
        The texture, 0..255, and its mean color.
    """
    candidates = rng.random((12, 3), dtype=np.float32) * 255
    nearest = np.linalg.norm(candidates[:, None] - others[None], axis=2).min(1)
    enough = np.flatnonzero(nearest > 110)
    color = candidates[enough[0] if len(enough) else nearest.argmax()]
    kind = PATTERNS[rng.integers(len(PATTERNS))]
    contrast = 40 + 50 * rng.random()
    first = _near(color, contrast / 2, rng)
    second = np.clip(2 * color - first, 0, 255)
    period = size * (0.2 + 0.2 * rng.random()) if size < 40 else 8 + 0.2 * size * rng.random()
    amount = pattern(kind, height, width, max(period, 5.0), rng)
    return _mix(amount, first, second), color


def background(
    height: int, width: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "3"]]:
    """A textured ground with strokes of clutter on it.

    Args:
        height: pixels.
        width: pixels.
        rng: decides all.

    Returns:
        The picture, 0..255, and its mean color.
    """
    color = (30 + 195 * rng.random(3)).astype(np.float32)
    kind = PATTERNS[rng.integers(len(PATTERNS))]
    second = _near(color, 15 + 45 * rng.random(), rng)
    amount = pattern(kind, height, width, 10 + 50 * rng.random(), rng)
    clouds = _smooth_noise(rng, height, width, 12 + 60 * rng.random())
    cloud_color = 60 * rng.random(3)
    colors = np.stack([second - color, cloud_color, color - cloud_color / 2], axis=1)
    picture = cv2.transform(cv2.merge([amount, clouds]), colors)
    _strokes(picture, rng)
    return picture, (color + second) / 2


def _strokes(picture: Float[np.ndarray, "h w 3"], rng: np.random.Generator) -> None:
    """Paints open lines, bends and arcs, in place: nothing that closes to one of the shapes."""
    height, width = picture.shape[:2]
    size = np.array([width, height])
    for _ in range(rng.integers(3, 13)):
        color = tuple(255 * rng.random(3))
        thickness = int(rng.integers(1, 5))
        start = rng.random(2) * size
        if rng.random() < 0.4:
            axes = tuple(int(a) for a in rng.integers(12, 70, 2))
            begin = 360 * rng.random()
            cv2.ellipse(
                picture, (int(start[0]), int(start[1])), axes, 360 * rng.random(), begin,
                begin + 60 + 120 * rng.random(), color, thickness, cv2.LINE_8,
            )  # fmt: skip
        else:
            steps = rng.standard_normal((int(rng.integers(1, 4)), 2)) * 40
            points = np.concatenate([start[None], start + np.cumsum(steps, axis=0)]).astype(np.int32)
            cv2.polylines(picture, [points[:, None]], False, color, thickness, cv2.LINE_8)


def light_and_noise(
    picture: Float[np.ndarray, "h w 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Changes brightness over the whole picture and across it, then adds noise to each value.

    Args:
        picture: 0..255.
        rng: decides brightness, direction and strength.

    Returns:
        The picture, rounded and clipped.
    """
    height, width = picture.shape[:2]
    gain, slope_x, slope_y, strength = rng.random(4)
    x = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(0.3 * (slope_x - 0.5))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(0.3 * (slope_y - 0.5))
    light = np.float32(0.65 + 0.55 * gain) + x + y
    lit = cv2.merge([light] * 3)
    cv2.multiply(picture, lit, dst=lit)
    # The difference of two bytes has a triangular distribution, of standard deviation 104: near enough to
    # sensor noise, and ten times as fast as normal numbers.
    raw = np.frombuffer(rng.bytes(2 * picture.size), np.uint8).reshape(2, *picture.shape)
    noise = cv2.subtract(raw[0], raw[1], dtype=cv2.CV_32F)
    return cv2.addWeighted(lit, 1, noise, 12 * strength / 104, 0, dtype=cv2.CV_8U)
