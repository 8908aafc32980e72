"""What every classifier of images shares: its loss and its answer, from logits."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vision_jax.types import Classification, ClassificationBatch, Mean


class Classifier(nn.Module):
    """A module that scores images; one that derives from it says how."""

    def __call__(self, batch: ClassificationBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Scores each image.

        Args:
            batch: images of one size.
            train: whether batch norm uses this batch's statistics, and updates its running ones.

        Returns:
            `logits` [B, K], float32, and whatever else is worth a look.
        """
        raise NotImplementedError

    def loss(self, batch: ClassificationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the images that are not filling."""
        logits = self(batch, train)["logits"]
        each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(batch.labels, 0))
        return {"cross_entropy": Mean.over(each, where=batch.example_valid & (batch.labels >= 0))}

    def predict(self, batch: ClassificationBatch) -> Classification:
        """The most probable class of each image."""
        logits = self(batch)["logits"]
        labels = logits.argmax(-1).astype(jnp.int32)
        return Classification(labels=labels, probabilities=nn.softmax(logits))
