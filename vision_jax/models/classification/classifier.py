"""What every classifier of images shares: its loss and its prediction, from logits."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision_jax.types import Classification, ClassificationBatch, Mean


def class_loss(
    logits: Float[Array, "b k"], batch: ClassificationBatch, smoothing: float = 0.0
) -> dict[str, Mean]:
    """Cross-entropy over the images that are no padding examples and have a label.

    Args:
        logits: of the K classes.
        batch: with the labels.
        smoothing: fraction of each target that is spread over all classes (Szegedy et al. 2016, section 7).

    Returns:
        `cross_entropy`, weighted by the number of those images.
    """
    target = optax.smooth_labels(nn.one_hot(jnp.maximum(batch.labels, 0), logits.shape[-1]), smoothing)
    each = optax.softmax_cross_entropy(logits, target)
    return {"cross_entropy": Mean.over(each, where=batch.example_valid & (batch.labels >= 0))}


def most_probable(logits: Float[Array, "b k"]) -> Classification:
    """The most probable class of each image, and the probabilities of all."""
    return Classification(labels=logits.argmax(-1).astype(jnp.int32), probabilities=nn.softmax(logits))
