"""What every system does with its scores and its loss terms: their precision, and which images count."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vision_jax.types import Mean


def at_least_float32(x: Float[Array, "*_shape"]) -> Float[Array, "*_shape"]:
    """What losses, probabilities and boxes are computed from: narrower floats are cast to float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def over_images(terms: dict[str, Mean], example_valid: Bool[Array | np.ndarray, " b"]) -> dict[str, Mean]:
    """Adds up loss terms that are given image by image.

    Args:
        terms: by name; totals and weights are [b].
        example_valid: which images are no padding examples.

    Returns:
        The terms with scalar totals and weights.
    """
    return jax.tree.map(lambda sums: jnp.sum(jnp.where(example_valid, sums, 0)), terms)
