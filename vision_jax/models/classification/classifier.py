"""What every classifier of images shares: its loss and its answer, from logits."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision_jax.types import Classification, ClassificationBatch, Mean


def class_loss(logits: Float[Array, "b k"], batch: ClassificationBatch) -> dict[str, Mean]:
    """Cross-entropy over the images that are not filling and have a label."""
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(batch.labels, 0))
    return {"cross_entropy": Mean.over(each, where=batch.example_valid & (batch.labels >= 0))}


def most_probable(logits: Float[Array, "b k"]) -> Classification:
    """The most probable class of each image, and the probabilities of all."""
    return Classification(labels=logits.argmax(-1).astype(jnp.int32), probabilities=nn.softmax(logits))
