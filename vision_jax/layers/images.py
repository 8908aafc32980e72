"""Images from bytes to the numbers a network sees."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

# Channel means and deviations of ImageNet's training images, RGB, for values in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

HALF = (0.5, 0.5, 0.5)  # mean and deviation of networks that came from TensorFlow: values in -1..1


def normalize(
    image: UInt8[Array | np.ndarray, "b h w 3"],
    size: Int[Array | np.ndarray, "b 2"] | None = None,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Float[Array, "b h w 3"]:
    """Scales to 0..1, subtracts the mean, divides by the deviation; padding becomes exactly zero.

    Args:
        image: RGB bytes.
        size: (height, width) of each image's content; None where images fill the canvas.
        mean, std: per channel, for values in 0..1.

    Returns:
        float32, roughly zero mean and unit variance, 0 on the padding.
    """
    x = (jnp.asarray(image, jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
    return x if size is None else without_padding(x, size)


def without_padding(
    x: Float[Array, "b h w c"], size: Int[Array | np.ndarray, "b 2"]
) -> Float[Array, "b h w c"]:
    """Zeros wherever a map is not of its image's content.

    Args:
        x: images or maps.
        size: (height, width) of each one's content, at the top left.

    Returns:
        The same values and dtype, 0 outside the content.
    """
    rows = jnp.arange(x.shape[1])[:, None] < jnp.asarray(size)[:, 0, None, None]
    columns = jnp.arange(x.shape[2]) < jnp.asarray(size)[:, 1, None, None]
    return jnp.where((rows & columns)[..., None], x, 0)


def gray(image: UInt8[Array | np.ndarray, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """The mean of an image's channels, float32 in 0..1."""
    return jnp.asarray(image, jnp.float32).mean(-1, keepdims=True) / 255
