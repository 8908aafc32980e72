"""What all systems of semantic segmentation share: what comes before and after a network that scores pixels.

A network is a module `(normalised images [B, H, W, 3], train, keys) -> maps by name`, among them `logits`
[B, H, W, K] and, where it has any, `auxiliary` [B, H, W, K], the scores of a map in its middle. It has an
attribute `multiple`: the sides of its images are multiples of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Shaped

from vision_jax.layers import normalise
from vision_jax.layers.keys import fold_ids
from vision_jax.ops.losses import dice_loss
from vision_jax.types import Mean, Segmentation, SegmentationBatch

Maps = dict[str, Float[Array, "..."]]


@dataclass(frozen=True)
class Views:
    """The views of an image whose probabilities are averaged in predicting.

    Attributes:
        scales: factors of its size.
        flip: whether each is seen mirrored (left and right) too.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


class Segmenter(nn.Module):
    """A network with the losses and predictions of semantic segmentation.

    Attributes:
        network: scores normalised images; see the module's text.
        class_weights: of the cross-entropy, one for each class; all the same if None. A rare class's pixels
            weigh more under median-frequency balancing (`vision_jax.data.class_frequency`).
        dice: weight of the dice loss beside the cross-entropy.
        auxiliary_weight: of the cross-entropy of `auxiliary` scores.
        views: whose probabilities `predict` averages.
    """

    network: nn.Module
    class_weights: tuple[float, ...] | None = None
    dice: float = 0.0
    auxiliary_weight: float = 0.4
    views: Views = Views()

    def scores(
        self, x: Float[Array, "b h w 3"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> Maps:
        """Scores normalised images of any size.

        Args:
            x: images.
            train: handed to the network, for its norms.
            keys: of each image, for dropout; None drops nothing.

        Returns:
            The network's maps by name, of images filled up with zeros to sides that it takes; `logits` and
            `auxiliary` are float32 at least and cut to [B, H, W, K].
        """
        height, width = x.shape[1:3]
        multiple: int = self.network.multiple  # type: ignore[attr-defined]
        x = jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)))
        maps: Maps = dict(self.network(x, train, keys))  # type: ignore[operator]
        for name in ("logits", "auxiliary"):
            if name in maps:
                logits = maps[name][:, :height, :width]
                maps[name] = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return maps

    def __call__(self, batch: SegmentationBatch, train: bool = False) -> Maps:
        """Scores each pixel.

        Args:
            batch: images on one canvas.
            train: whether there is dropout, and batch norm uses this batch's statistics.

        Returns:
            As `scores`.
        """
        keys = fold_ids(self.make_rng("sample"), batch.id) if train and self.has_rng("sample") else None
        return self.scores(normalise(batch.image, batch.size), train, keys)

    def loss(self, batch: SegmentationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the pixels that have a label, and dice over the images that have such pixels."""
        labels = jnp.where(batch.example_valid[:, None, None], batch.labels, -1)
        return self.terms(self(batch, train), labels)

    def terms(self, maps: Maps, labels: Int[Array, "b h w"]) -> dict[str, Mean]:
        """The loss of scores.

        Args:
            maps: with `logits` and, if there are any, `auxiliary`.
            labels: 0..K-1, -1 where void.
        """
        terms = {"cross_entropy": cross_entropy(maps["logits"], labels, self.class_weights)}
        if "auxiliary" in maps:
            term = cross_entropy(maps["auxiliary"], labels, self.class_weights)
            terms["auxiliary"] = replace(term, total=self.auxiliary_weight * term.total)
        if self.dice:
            each, counts = jax.vmap(dice_loss)(nn.softmax(maps["logits"]), labels)
            term = Mean.over(each, where=counts)
            terms["dice"] = replace(term, total=self.dice * term.total)
        return terms

    def predict(self, batch: SegmentationBatch) -> Segmentation:
        """The most probable class of each pixel, by the mean probabilities of all views."""
        x = normalise(batch.image, batch.size)
        found = []
        for scale in self.views.scales:
            found.append(self._seen(x, scale))
            if self.views.flip:
                found.append(mirrored(self._seen(mirrored(x, batch.size), scale), batch.size))
        probabilities = sum(found[1:], found[0]) / len(found)
        return Segmentation(probabilities.argmax(-1).astype(jnp.int32), probabilities)

    def _seen(self, x: Float[Array, "b h w 3"], scale: float) -> Float[Array, "b h w k"]:
        """Probabilities from the image at another size, back at its own."""
        b, h, w, _ = x.shape
        if scale == 1:
            return nn.softmax(self.scores(x)["logits"])
        resized = jax.image.resize(x, (b, max(1, round(scale * h)), max(1, round(scale * w)), 3), "linear")
        probabilities = nn.softmax(self.scores(resized)["logits"])
        return jax.image.resize(probabilities, (b, h, w, probabilities.shape[-1]), "linear")


def cross_entropy(
    logits: Float[Array, "b h w k"],
    labels: Int[Array, "b h w"],
    class_weights: Sequence[float] | None = None,
) -> Mean:
    """Cross-entropy over the pixels that have a label.

    Args:
        logits: of each class.
        labels: 0..k-1, -1 where void.
        class_weights: of each class's pixels, in the sum and in what it is divided by.
    """
    # With one-hot targets the gradient is a difference; picking by index would scatter, slowly on CPUs.
    truth = jax.nn.one_hot(labels, logits.shape[-1])
    each = optax.softmax_cross_entropy(logits, truth)
    if class_weights is None:
        return Mean.over(each, where=labels >= 0)
    return Mean.over(each, where=labels >= 0, weights=truth @ jnp.asarray(class_weights, each.dtype))


def mirrored(x: Shaped[Array, "b h w c"], size: Int[Array | np.ndarray, "b 2"]) -> Shaped[Array, "b h w c"]:
    """Mirrors each image's content left and right; the padding stays on its right."""
    columns = jnp.arange(x.shape[2])
    inside = jnp.asarray(size)[:, 1, None]
    there = jnp.where(columns < inside, inside - 1 - columns, columns)
    return jnp.take_along_axis(x, there[:, None, :, None], axis=2)
