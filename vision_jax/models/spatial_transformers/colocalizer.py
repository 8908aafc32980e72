"""Co-localization (Jaderberg et al. 2015, appendix A.2): finds what images have in common, told nothing else.

A spatial transformer crops each image. Crops of two images should look more alike, to a network that was
trained to classify, than a crop and a random patch of the same image:

    max(0, agreement * |e(crop) - e(another image's crop)|^2 - |e(crop) - e(patch)|^2 + margin)

The paper's agreement is 1, and its margin of 1 says nothing without the encodings' scale: here objects as the
encoder has learned them have a mean square of 1. From random crops the first term pulls all of them to where
nothing is, for nothing looks more alike. An agreement of 0 for the first steps finds whatever looks unlike
the rest of its image; from there the full loss finds what the images share.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, Shaped

from vision_jax.layers import Dense
from vision_jax.layers.images import gray
from vision_jax.layers.keys import fold_ids
from vision_jax.layers.norms import axis_is_bound
from vision_jax.models.classification.classifier import class_loss
from vision_jax.models.protocols import FeatureNetwork
from vision_jax.models.spatial_transformers.spatial_transformer import SpatialTransformer, Window
from vision_jax.models.spatial_transformers.transformed_classifier import Convolutional
from vision_jax.ops.boxes import clip_boxes
from vision_jax.ops.sampling import attention_grid, sample_bilinear
from vision_jax.types import AXIS, ClassificationBatch, DetectionBatch, Detections, Mean


class CropEncoder(nn.Module):
    """A classifier of which all layers are features.

    Attributes:
        num_classes: K.
        network: the hidden layers.
    """

    num_classes: int = 10
    network: Convolutional = Convolutional()

    @nn.compact
    def __call__(self, crops: Float[Array, "b h w 1"]) -> list[Float[Array, "b _f"]]:
        """The activations of each layer for images of 0..1, the logits last."""
        hidden = self.network.layers(crops)[1:]
        return [*hidden, Dense(self.num_classes)(hidden[-1])]

    def loss(self, batch: ClassificationBatch, train: bool = True) -> dict[str, Mean]:
        """Cross-entropy over the images that are no padding examples."""
        return class_loss(self(gray(batch.image))[-1], batch)


class CoLocalizer(nn.Module):
    """One box an image, around what the images have in common.

    Gradients leave the parameters `encoder` and `scale` alone: train them before.

    Attributes:
        localisation: (maps, train) -> features, as a `SpatialTransformer` has it.
        encoder: crops -> the layers of features that are compared.
        sides: the least and the greatest side of a box, as fractions of the image's.
        size: of crops, in pixels.
        margin: by how much crops should be more alike.
        agreement: how much of the distance between two images' crops counts.
    """

    localisation: FeatureNetwork
    encoder: CropEncoder = CropEncoder()
    sides: tuple[float, float] = (0.0, 1.0)
    size: int = 28
    margin: float = 1.0
    agreement: float = 1.0

    def setup(self) -> None:
        self.window = Window(self.sides)
        self.transformer = SpatialTransformer(
            self.localisation, self.window, output_size=(self.size, self.size)
        )
        self.scale = self.param("scale", nn.initializers.ones, ())

    def __call__(self, batch: DetectionBatch, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Crops each image.

        Returns:
            `window` [B, 3], a crop's side as a fraction of the image's and the normalized (x, y) of its
            middle; `crops` [B, size, size, 1], what is there, 0..1.
        """
        crops, theta = self.transformer(gray(batch.image), train)
        return {"window": self.window.crop(theta[:, 0]), "crops": crops[:, 0]}

    def encode(self, crops: Float[Array, "b size size 1"]) -> Float[Array, "b f"]:
        """All layers' activations in a row, divided by `scale`."""
        layers: Any
        if self.is_initializing():
            layers = self.encoder(crops)
        else:
            encoder, variables = self.encoder.unbind()
            layers = encoder.apply(lax.stop_gradient(variables), crops)
        return jnp.concatenate(layers, axis=-1) / lax.stop_gradient(self.scale)

    def loss(self, batch: DetectionBatch, train: bool = True) -> dict[str, Mean]:
        """The triplet loss of each image, the one before it in the whole batch, and a patch of its own.

        The stream `sample` and the image's id decide the patch: any side that a box may have, anywhere
        inside the image.
        """
        keys = fold_ids(self.make_rng("sample"), batch.id)
        patches = jax.vmap(self._patch)(keys, gray(batch.image))
        crops = self(batch, train)["crops"]
        features = self.encode(jnp.concatenate([crops, patches]))
        here, elsewhere = jnp.split(features, 2)
        alike = jnp.square(here - _before(here)).sum(-1)
        unlike = jnp.square(here - elsewhere).sum(-1)
        present = jnp.asarray(batch.example_valid)
        each = nn.relu(self.agreement * alike - unlike + self.margin)
        return {"triplet": Mean.over(each, present & _before(present))}

    def _patch(self, key: Key[Array, ""], image: Float[Array, "h w 1"]) -> Float[Array, "size size 1"]:
        """A random square of the image, of any side that a box may have, at the size of crops, 0..1."""
        of_side, of_middle = jax.random.split(key)
        side = jax.random.uniform(of_side, (1,), minval=self.sides[0], maxval=self.sides[1])
        middle = (1 - side) * jax.random.uniform(of_middle, (2,), minval=-1, maxval=1)
        points = attention_grid(jnp.concatenate([side, middle]), (self.size, self.size))
        return sample_bilinear(image, points)

    def predict(self, batch: DetectionBatch) -> Detections:
        """The crop's box in each image, of class 0 and score 1."""
        window = self(batch)["window"]
        height, width = batch.image.shape[1:3]
        extent = jnp.array([width, height], jnp.float32)
        middle, half = (window[:, 1:] + 1) / 2 * extent, window[:, :1] / 2 * extent
        boxes = jax.vmap(clip_boxes)(jnp.concatenate([middle - half, middle + half], 1)[:, None], batch.size)
        ones = jnp.ones(boxes.shape[:2])
        return Detections(boxes=boxes, scores=ones, labels=ones.astype(jnp.int32) - 1, valid=ones > 0)


def _before(x: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    """Of each example the one before it in the batch of all devices; of the first the last."""
    last = x[-1:]
    if axis_is_bound():
        devices = lax.axis_size(AXIS)
        last = lax.ppermute(last, AXIS, [(i, (i + 1) % devices) for i in range(devices)])
    return jnp.concatenate([last, x[:-1]])
