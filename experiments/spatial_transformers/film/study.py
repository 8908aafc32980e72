"""Watches a spatial transformer learn, and films what it then sees of digits that turn.

    python experiments/spatial_transformers/film/study.py --data idx:../shared/data/mnist --out FOLDER

Writes three pictures: `training.png`, some digits turned by up to 90 degrees (R) with the grid that is read
and the outcome, after so many steps; `training.gif`, the same at every step that was looked at; and
`rotation.gif`, digits that turn from one side to the other while what the classifier sees of them stays
upright. The thicker side of a grid is what becomes the top. Nothing says which way is up: a digit may come
out tilted, but should come out alike. How nearly it does is printed.

A family that can only turn (`--transformer rotation`) straightens, as the classifier gains by nothing else.
One that can do more shears, shifts and stretches instead, which serves the classifier as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from vision_jax.cli.scripts import run_script
from vision_jax.data.digits.distortions import DISTORTIONS, framed
from vision_jax.data.open import open_classification
from vision_jax.models.spatial_transformers.spatial_transformer import TRANSFORMS, TransformName
from vision_jax.models.spatial_transformers.transformed_classifier import digit_classifier
from vision_jax.tasks import ClassificationTask
from vision_jax.training import TrainConfig
from vision_jax.training.bare import bare_training
from vision_jax.types import ClassificationBatch, Count, Seed, check_options, stack_pictures
from vision_jax.visualization import plot_warps, save_gif, save_png

_STRIP = (0, 20, 60, 200, 600, 2000)
_WIDEST = 75  # degrees, that digits turn either way in the film
_EVALUATED = 200  # digits, by how nearly they come out alike

Seen = tuple[Float[np.ndarray, "n h w 2"], Float[np.ndarray, "n h w 1"], Int[np.ndarray, " n"]]
See = Callable[[UInt8[np.ndarray, "n h w 3"]], Seen]


def film(
    out: Path,
    data: str = "digits",
    transformer: TransformName = "rotation",
    steps: Count = 2000,
    every: Count = 20,
    digits: Count = 6,
    seed: Seed = 0,
) -> None:
    """Trains a convolutional classifier behind a transformer, and plots what it sees.

    Args:
        out: folder for the pictures.
        data: `idx:FOLDER` (MNIST's format) or `digits`.
        transformer: what may be learned.
        steps: of training.
        every: so many steps one frame of training.gif.
        digits: how many are shown.
        seed: of the initial parameters, the order of the data and all random sampling.
    """
    check_options(film, locals())
    transform = TRANSFORMS[transformer]
    opened = ClassificationTask(data, distortion=DISTORTIONS["R"]).open(None)
    model = digit_classifier(len(opened.spec.classes), "cnn", transform)
    config = TrainConfig(
        steps=steps, batch_size=128, optimizer="adamw", learning_rate=1e-3, weight_decay=1e-2
    )

    @jax.jit
    def look(variables: Any, batch: ClassificationBatch) -> Any:
        outputs: Any = model.apply(variables, batch)
        warped = outputs["warped"][:, 0]
        points = jax.vmap(lambda theta: transform.grid(theta, warped.shape[1:3], False))
        return points(outputs["theta"][:, 0]), warped, outputs["logits"].argmax(axis=-1)

    def see(variables: Any, images: UInt8[np.ndarray, "n h w 3"]) -> Seen:
        numbers = np.arange(len(images), dtype=np.int32)
        batch: Any = ClassificationBatch(images, numbers, numbers, numbers >= 0)  # type: ignore[arg-type]
        return jax.device_get(look(variables, batch))

    shown = np.asarray(next(iter(opened.once("val", digits))).image)
    frames, moments = [], []
    learned: Any = None
    batches = opened.train(config.batch_size, seed, 0)
    for done, learned in enumerate(bare_training(model, config, batches, seed)):
        if done % every == 0:
            title = f"after {done} of {steps} steps"
            frames.append(plot_warps(list(shown), *see(learned, shown)[:2], title=title))
        if done in _STRIP:
            moments.append((done, *see(learned, shown)[:2]))
    save_gif(out / "training.gif", [*frames, *10 * frames[-1:]])
    save_png(out / "training.png", strip(shown[:3], moments))

    source = open_classification(data)[1]
    evaluated = range(min(len(source), max(digits, _EVALUATED)))
    upright = [framed(source.image(i)) for i in evaluated]
    labels = [source.record(i).label for i in evaluated]
    save_gif(out / "rotation.gif", turning(upright, labels, partial(see, learned), digits))


def turning(
    upright: Sequence[UInt8[np.ndarray, "28 28 3"]], labels: Sequence[int], see: See, shown: int
) -> list[UInt8[np.ndarray, "_h _w 3"]]:
    """Frames of the first digits as they turn; prints how nearly all of them come out alike."""
    angles = _WIDEST * np.sin(np.linspace(0, 2 * np.pi, 30, endpoint=False))
    frames, tilts, right = [], [], []
    for angle in angles:
        turned = np.stack([turn(digit, angle) for digit in upright])
        points, warped, classes = see(turned)
        title = f"turned by {angle:+.0f} degrees"
        frames.append(plot_warps(list(turned[:shown]), points[:shown], warped[:shown], title=title))
        tilts.append(angle - turned_back(points))
        right.append(np.mean(classes == labels))
    spread = np.unwrap(tilts, axis=0, period=360).std(axis=0)
    print(
        f"{len(upright)} digits that turn by {angles.std():.0f} degrees (standard deviation) come out turned "
        f"by {np.median(spread):.0f} (the median digit); {np.mean(right):.1%} are classified rightly"
    )
    return frames


def strip(
    images: UInt8[np.ndarray, "n h w 3"], moments: Sequence[tuple[int, np.ndarray, np.ndarray]]
) -> UInt8[np.ndarray, "_h _w 3"]:
    """Two rows for each image, the grid on it and the outcome, and a column for each moment of training."""
    captions = [f"step {done}" for done, _, _ in moments]
    rows = []
    for i, image in enumerate(images):
        read = np.stack([points[i] for _, points, _ in moments])
        seen = np.stack([warped[i] for _, _, warped in moments])
        rows.append(plot_warps(len(moments) * [image], read, seen, captions))
    return stack_pictures(rows)


def turned_back(points: Float[np.ndarray, "n h w 2"]) -> Float[np.ndarray, " n"]:
    """By how many degrees what a grid reads comes out turned anticlockwise: where its rows lead."""
    x, y = np.moveaxis((points[:, :, -1] - points[:, :, 0]).mean(axis=1), -1, 0)
    return np.degrees(np.arctan2(y, x))


def turn(digit: UInt8[np.ndarray, "28 28 3"], degrees: float) -> UInt8[np.ndarray, "28 28 3"]:
    """Turned clockwise about its middle."""
    return cv2.warpAffine(digit, cv2.getRotationMatrix2D((13.5, 13.5), -degrees, 1), (28, 28))  # type: ignore[return-value]


if __name__ == "__main__":
    run_script(film)
