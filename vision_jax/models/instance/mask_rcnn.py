"""Mask R-CNN (He et al. 2017): Faster R-CNN with a small network that predicts each region's mask.

It stands on the stages of `FasterRCNN`; the mask branch reads the positive regions in training and the
detections in predicting. Its parts are those that the paper's table 2 compares: how regions are pooled
(RoIPool, RoIAlign by mean or maximum, on a pyramid or on one map of stride 16 or 32), a fully convolutional
or a fully connected branch, masks of all classes independently (sigmoid) or in competition (softmax), one
mask a class or one for all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv import Conv, Dense
from vision_jax.layers.conv_transpose import ConvTranspose2x2
from vision_jax.models.detection.two_stage.faster_rcnn import FasterRCNN
from vision_jax.models.protocols import Maps, MaskHead
from vision_jax.models.terms import at_least_float32, over_images
from vision_jax.ops import crop_masks, map_used
from vision_jax.types import Count, DetectionBatch, InstanceBatch, Instances, Mean, Whole


class FCNMaskHead(CheckedModule):
    """3x3 convolutions, one 2x2 transposed convolution of stride 2, then a 1x1 convolution (figure 4).

    Attributes:
        convolutions: 3x3 ones; 4 on a pyramid, 0 on a residual head's output.
        features: channels.
    """

    convolutions: Whole = 4
    features: Count = 256

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], channels: int) -> Float[Array, "n 2*h 2*w {channels}"]:
        """Logits of `channels` masks for each region, of twice its rows and columns."""
        for i in range(self.convolutions):
            x = nn.relu(Conv(self.features, name=f"conv{i + 1}")(x))
        x = nn.relu(ConvTranspose2x2(self.features, name="up")(x))
        return Conv(channels, 1, kernel_init=nn.initializers.normal(0.001), name="masks")(x)

    @staticmethod
    def size(pooled: int) -> int:
        """Rows and columns of a mask, from those of the region's features."""
        return 2 * pooled


class MLPMaskHead(CheckedModule):
    """Two fully connected layers, then all cells of all masks at once (table 2e).

    Attributes:
        features: of the hidden layers.
        cells: rows and columns of a mask.
    """

    features: Count = 1024
    cells: Count = 28

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], channels: int
    ) -> Float[Array, "n {self.cells} {self.cells} {channels}"]:
        """Logits of `channels` masks for each region."""
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Dense(self.features, name="fc1")(x))
        x = nn.relu(Dense(self.features, name="fc2")(x))
        last = nn.initializers.normal(0.001)
        masks = Dense(self.cells * self.cells * channels, kernel_init=last, name="masks")(x)
        return masks.reshape(-1, self.cells, self.cells, channels)

    def size(self, pooled: int) -> int:
        """Rows and columns of a mask, from those of the region's features."""
        return self.cells


class MaskRCNN(FasterRCNN):
    """Mask R-CNN on any backbone.

    Attributes:
        mask_head: (features of regions, channels) -> logits of masks, [n, m, m, channels]; `size` gives m.
            Its only variables are parameters (`MaskHead`).
        mask_pooled_size: rows and columns of a region that is pooled for the mask head.
        mask_after_head: whether the mask head reads the box head's features instead, as with a
            `ResidualHead`; regions are pooled once while training.
        mask_loss: `sigmoid`: each class's mask by itself, only the true class's enters the loss; `softmax`:
            classes and background compete in each cell (table 2b).
        class_agnostic_masks: one mask for all classes instead of one for each.
        mask_chunk: regions that the mask head works on at a time: a bound on its memory.
    """

    mask_head: MaskHead = FCNMaskHead()
    mask_pooled_size: Count = 14
    mask_after_head: bool = False
    mask_loss: Literal["sigmoid", "softmax"] = "sigmoid"
    class_agnostic_masks: bool = False
    mask_chunk: Count = 32

    def __call__(self, batch: DetectionBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Raw outputs by name: those of `FasterRCNN`, and of the detections, best first.

        Returns:
            also `detections/boxes` [B, D, 4], `/scores`, `/labels`, `/valid`, and `mask/logits`
            [B, D, m, m, channels], the last channel "no object" with softmax.
        """
        raw = super().__call__(batch, train)
        maps, found = self.detect(batch)
        features = self.mask_features(maps, found.boxes, train)
        logits = at_least_float32(self.mask_head(features, self.mask_channels))
        return {
            **raw,
            "detections/boxes": found.boxes,
            "detections/scores": found.scores,
            "detections/labels": found.labels,
            "detections/valid": found.valid,
            "mask/logits": logits.reshape(*found.labels.shape, *logits.shape[1:]),
        }

    def loss(self, batch: InstanceBatch, train: bool = True) -> dict[str, Mean]:
        """The four losses of Faster R-CNN, and cross-entropy over the cells of positive regions' masks.

        A region's mask loss is its cells' mean; regions weigh alike. Regions of objects without a known mask
        do not enter it.
        """
        terms, (maps, regions, scores) = self.box_losses(batch, train)
        count = int(self.rois_per_image * self.positive_fraction)  # positives come first
        boxes, truth, labels = (x[:, :count] for x in (regions.boxes, regions.truth, regions.labels))
        known = jnp.any(batch.masks > 0, axis=(2, 3))
        used = regions.positive[:, :count] & jnp.take_along_axis(known, truth, axis=1)
        # A box that is not finite pools zeros and costs nothing in the backward pass.
        boxes = jnp.where(used[..., None], boxes, jnp.nan)
        if self.mask_after_head:
            features = scores.features
            features = features.reshape(*regions.sampled.shape, *features.shape[1:])[:, :count]
            features = features.reshape(-1, *features.shape[2:])
        else:
            features = self.mask_features(maps, boxes, train)
        size = self.mask_head.size(features.shape[1])
        targets = jax.vmap(partial(crop_masks, size=size))(batch.masks, batch.frames, truth, boxes)
        inputs = (features, labels.reshape(-1), targets.reshape(-1, size, size))
        losses = self._on_used(self._mask_losses, inputs, used.reshape(-1))
        weight = used.sum(1).astype(jnp.float32)
        terms["mask"] = Mean(losses.reshape(used.shape).sum(1), weight)
        return over_images(terms, batch.example_valid)

    def predict(self, batch: DetectionBatch) -> Instances:
        """Detections in canvas pixels with a mask each, inside each image's content, best first."""
        maps, found = self.detect(batch)
        features = self.mask_features(maps, found.boxes)
        size = self.mask_head.size(features.shape[1])
        masks = self._on_used(
            self._mask_probabilities, (features, found.labels.reshape(-1)), found.valid.reshape(-1)
        )
        return Instances(
            boxes=found.boxes,
            scores=found.scores,
            labels=found.labels,
            valid=found.valid,
            masks=masks.reshape(*found.labels.shape, size, size),
        )

    @property
    def mask_channels(self) -> int:
        """Masks of a region: one a class or one for all, and with softmax one of the background."""
        return (1 if self.class_agnostic_masks else self.num_classes) + (self.mask_loss == "softmax")

    def mask_features(
        self, maps: Maps, boxes: Float[Array, "b r 4"], train: bool = False
    ) -> Float[Array, "b*r h w c"]:
        """What the mask head reads of regions, those of all images end to end.

        Args:
            maps: the neck's.
            boxes: canvas pixels.
            train: whether batch norms of the box head use this batch's statistics, if its features are read.
        """
        pooled = self.pool(maps, boxes, self.pooled_size if self.mask_after_head else self.mask_pooled_size)
        pooled = pooled.reshape(-1, *pooled.shape[2:])
        return self.head(pooled, train) if self.mask_after_head else pooled

    def _on_used(
        self, finish: Callable[..., Array], inputs: tuple[Array, ...], used: Bool[Array, " n"]
    ) -> Float[Array, "n ..."]:
        """Runs the mask head on the regions that are used, `mask_chunk` at a time; others get zeros.

        Args:
            finish: (mask logits [k, m, m, channels], *others) -> the results of k regions.
            inputs: features [n, h, w, c] and whatever else `finish` takes, each of n regions.
            used: which regions count.
        """
        if self.is_initializing():
            self.mask_head(inputs[0][:1], self.mask_channels)
        # A bound module cannot be called inside lax's loops and branches; its function can.
        head, variables = self.mask_head.unbind()

        def work(rows: tuple[Array, ...]) -> Array:
            logits = head.apply(variables, rows[0], self.mask_channels)
            return finish(at_least_float32(logits), *rows[1:])

        return map_used(work, inputs, used, self.mask_chunk)

    def _own(self, maps: Float[Array, "n m m channels"], labels: Int[Array, " n"]) -> Float[Array, "n m m"]:
        """Each region's map of its own class."""
        last = self.num_classes - 1
        own = jnp.zeros_like(labels) if self.class_agnostic_masks else jnp.clip(labels, 0, last)
        return jnp.take_along_axis(maps, own[:, None, None, None], axis=-1)[..., 0]

    def _mask_losses(
        self,
        logits: Float[Array, "n m m channels"],
        labels: Int[Array, " n"],
        targets: Float[Array, "n m m"],
    ) -> Float[Array, " n"]:
        """Cross-entropy of each region's mask, the mean of its cells (section 3; with softmax, table 2b).

        Args:
            logits: the mask head's.
            labels: class of the matched object.
            targets: the object's coverage of each cell, 0..1.
        """
        if self.mask_loss == "sigmoid":
            cells = optax.sigmoid_binary_cross_entropy(self._own(logits, labels), targets)
        else:
            scores = nn.log_softmax(logits)
            cells = -targets * self._own(scores, labels) - (1 - targets) * scores[..., -1]
        return cells.mean((1, 2))

    def _mask_probabilities(
        self, logits: Float[Array, "n m m channels"], labels: Int[Array, " n"]
    ) -> Float[Array, "n m m"]:
        """The probability that each cell is of the detected class's mask."""
        if self.mask_loss == "sigmoid":
            return nn.sigmoid(self._own(logits, labels))
        return self._own(nn.softmax(logits), labels)
