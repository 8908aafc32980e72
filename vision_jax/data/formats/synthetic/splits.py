"""Training and evaluation scenes: the same rules, other seeds."""

from __future__ import annotations

from vision_jax.data.formats.synthetic.scenes import (
    SyntheticClassification,
    SyntheticScenes,
    SyntheticSegmentation,
)


def open_scenes(
    length: int = 4000,
    val_length: int = 200,
    seed: int = 0,
    canvas: int = 256,
    objects: int = 8,
    fractions: tuple[float, float] = (1 / 16, 1 / 2),
) -> tuple[SyntheticScenes, SyntheticScenes]:
    """Scenes with boxes and masks.

    Args:
        length, val_length: scenes to train and to evaluate on.
        seed: at least 0; which scenes.
        canvas: side of the square scenes, in pixels.
        objects: the most objects in a scene; the fewest is 1.
        fractions: objects' least and greatest size, as fractions of the side; none is under 8 pixels.

    Returns:
        (training, evaluation).

    Raises:
        UserError: scenes of these lengths and sizes cannot be.
    """
    sizes = (max(8.0, fractions[0] * canvas), max(8.0, fractions[1] * canvas))
    return (
        SyntheticScenes(length, 2 * seed, (canvas, canvas), (1, objects), sizes),
        SyntheticScenes(val_length, 2 * seed + 1, (canvas, canvas), (1, objects), sizes),
    )


def open_scene_maps(
    length: int = 4000, val_length: int = 200, seed: int = 0, canvas: int = 256, objects: int = 8
) -> tuple[SyntheticSegmentation, SyntheticSegmentation]:
    """Scenes with label maps; as `open_scenes`."""
    train, val = open_scenes(length, val_length, seed, canvas, objects)
    return train.segmentation(), val.segmentation()


def open_scene_classes(
    length: int = 4000, val_length: int = 200, seed: int = 0, canvas: int = 64
) -> tuple[SyntheticClassification, SyntheticClassification]:
    """Scenes of one object, a quarter to three quarters of the side long; as `open_scenes`."""
    train, val = open_scenes(length, val_length, seed, canvas, objects=1, fractions=(1 / 4, 3 / 4))
    return train.classification(), val.classification()
