"""What all systems of semantic segmentation share: what comes before and after a network that scores pixels.

What such a network is, `SegmentationNetwork` says (`vision_jax.models.protocols`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Shaped

from vision_jax.layers import normalize
from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.images import without_padding
from vision_jax.layers.keys import fold_ids
from vision_jax.models.protocols import SegmentationNetwork
from vision_jax.models.terms import at_least_float32
from vision_jax.ops.losses import dice_loss
from vision_jax.types import Mean, NotNegative, Segmentation, SegmentationBatch

ScoreMaps = dict[str, Float[Array, "..."]]


@dataclass(frozen=True)
class Views:
    """The views of an image whose probabilities are averaged in predicting.

    Attributes:
        scales: factors of its size.
        flip: whether each is seen mirrored (left and right) too.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


class Segmenter(CheckedModule):
    """A network with the losses and predictions of semantic segmentation.

    Attributes:
        network: scores normalized images.
        class_weights: of the cross-entropy, one for each class; all the same if None. A rare class's pixels
            weigh more under median-frequency balancing (`vision_jax.data.annotations.class_frequency`).
        dice: weight of the dice loss beside the cross-entropy.
        auxiliary_weight: of the cross-entropy of `auxiliary` scores.
        views: whose probabilities `predict` averages.
    """

    network: SegmentationNetwork
    class_weights: tuple[NotNegative, ...] | None = None
    dice: NotNegative = 0.0
    auxiliary_weight: NotNegative = 0.4
    views: Views = Views()

    def scores(
        self, x: Float[Array, "b h w 3"], train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> ScoreMaps:
        """Scores normalized images of any size.

        Args:
            x: images.
            train: handed to the network, for its norms.
            keys: of each image, for dropout; None drops nothing.

        Returns:
            The network's maps by name, of images padded with zeros to sides that it takes; `logits` and
            `auxiliary` are float32 at least and cut to [B, H, W, K].
        """
        height, width = x.shape[1:3]
        multiple = self.network.multiple
        x = jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)))
        maps = dict(self.network(x, train, keys))
        for name in ("logits", "auxiliary"):
            if name in maps:
                maps[name] = at_least_float32(maps[name][:, :height, :width])
        return maps

    def __call__(self, batch: SegmentationBatch, train: bool = False) -> ScoreMaps:
        """Scores each pixel.

        Args:
            batch: images on one canvas.
            train: whether there is dropout, and batch norm uses this batch's statistics.

        Returns:
            As `scores`.
        """
        keys = fold_ids(self.make_rng("sample"), batch.id) if train and self.has_rng("sample") else None
        return self.scores(normalize(batch.image, batch.size), train, keys)

    def loss(self, batch: SegmentationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the pixels that have a label, and dice over the images that have such pixels."""
        labels = jnp.where(batch.example_valid[:, None, None], batch.labels, -1)
        return self.terms(self(batch, train), labels)

    def terms(self, maps: ScoreMaps, labels: Int[Array, "b h w"]) -> dict[str, Mean]:
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
        x = normalize(batch.image, batch.size)
        found = [self._seen(x, batch.size, scale) for scale in self.views.scales]
        probabilities = sum(found[1:], found[0]) / len(found)
        return Segmentation(probabilities.argmax(-1).astype(jnp.int32), probabilities)

    def _seen(self, x: Float[Array, "b h w 3"], size: Int[Array, "b 2"], scale: float) -> Float[Array, "..."]:
        """Probabilities [b, h, w, k] from the image at another size, back at its own."""
        shape = x.shape[1], x.shape[2]
        seen, content = x, size
        if scale != 1:
            # The pixels whose centres lie in the image.
            content = jnp.maximum(jnp.ceil(scale * size - 0.5).astype(jnp.int32), 1)
            height, width = (max(1, math.ceil(scale * side)) for side in shape)
            seen = without_padding(_resized(x, size, scale, (height, width)), content)
        probabilities = nn.softmax(self.scores(seen)["logits"])
        if self.views.flip:
            probabilities = (probabilities + self._mirrored_answer(seen, content)) / 2
        return probabilities if scale == 1 else _resized(probabilities, content, 1 / scale, shape)

    def _mirrored_answer(
        self, x: Float[Array, "b h w 3"], size: Int[Array, "b 2"]
    ) -> Float[Array, "b h w k"]:
        """Probabilities from the mirror image, turned back.

        It is mirrored with the padding that the network needs, so that the grids of all strides lie on the
        image as they did, in whichever part of a larger image it is.
        """
        height, width = x.shape[1:3]
        multiple = self.network.multiple
        x = jnp.pad(x, ((0, 0), (0, 0), (0, -width % multiple), (0, 0)))
        padded = jnp.asarray(size) + -jnp.asarray(size) % multiple
        answer = mirrored(nn.softmax(self.scores(mirrored(x, padded))["logits"]), padded)
        return answer[:, :height, :width]


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
    """Mirrors each image's content left and right; the padding remains on its right.

    Args:
        x: images or maps.
        size: (height, width) of each one's content, in its own pixels.
    """
    columns = jnp.arange(x.shape[2])
    inside = jnp.asarray(size)[:, 1, None]
    there = jnp.where(columns < inside, inside - 1 - columns, columns)
    return jnp.take_along_axis(x, there[:, None, :, None], axis=2)


def _resized(
    x: Float[Array, "b h w c"], size: Int[Array, "b 2"], scale: float, shape: tuple[int, int]
) -> Float[Array, "b {shape[0]} {shape[1]} c"]:
    """Interpolates each image's content at another size; around it, its last row and column are repeated.

    Args:
        x: images or maps.
        size: (height, width) of each one's content, in its own pixels.
        scale: the new size over the old.
        shape: rows and columns of the new canvas.
    """
    reach = math.ceil(1 / scale) + 1  # of the interpolation's kernel, so that no canvas cuts it short
    for axis, side in enumerate(shape):
        positions = jnp.arange(max(x.shape[1 + axis], math.ceil(side / scale)) + reach)
        positions = jnp.minimum(positions, jnp.asarray(size)[:, axis, None] - 1)
        x = jnp.take_along_axis(x, jnp.expand_dims(positions, (2 - axis, 3)), axis=1 + axis)
    factor, zero = jnp.full(2, scale, x.dtype), jnp.zeros(2, x.dtype)
    resize = partial(
        jax.image.scale_and_translate,
        shape=(*shape, x.shape[-1]),
        spatial_dims=(0, 1),
        scale=factor,
        translation=zero,
        method="linear",
    )
    return jax.vmap(resize)(x)
