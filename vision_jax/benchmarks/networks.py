"""A residual network alone: features of a batch of images, and a step that learns from them."""
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.backbones import ResNet, ResNetName, resnet
from vision_jax.benchmarks.case import Case, Settings, Side
from vision_jax.benchmarks.operations import compiled
from vision_jax.benchmarks.torchvision_weights import backbone_variables
from vision_jax.benchmarks.training import training
from vision_jax.training.state import Variables, initial_variables
from vision_jax.types import Mean


class Energy(nn.Module):
    """A backbone that learns to put out zeros: the least work around it.

    Attributes:
        backbone: images -> maps by name.
    """

    backbone: ResNet

    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Float[Array, "b _ _ _"]:
        """The last map."""
        return list(self.backbone(images, train).values())[-1]

    def loss(self, images: Float[Array, "b h w 3"], train: bool = True) -> dict[str, Mean]:
        """Its mean square."""
        return {"energy": Mean.over(jnp.square(self(images, train)))}


class Backbone(Case):
    """A ResNet with batch norm and no classifier: forward with running statistics, or a training step."""

    def __init__(self, settings: Settings, train: bool):
        random = np.random.default_rng(0)
        size = (settings.batch, settings.image, settings.image, 3)
        self.images = settings.batch
        self._name: ResNetName = settings.backbone
        self._train = train
        self._batch = random.normal(size=size).astype(np.float32)

    def ours(self, peer: Any = None) -> Side:
        model = Energy(resnet(self._name))
        variables: Variables
        if peer is None:
            variables = initial_variables(model, jax.random.key(0), self._batch)
        else:
            theirs = backbone_variables(peer)
            variables = {name: {"backbone": tree} for name, tree in theirs.items()}
        if self._train:
            return training(model, variables, self._batch)
        return compiled(model.apply, variables, self._batch)

    def theirs(self) -> Side:
        import torch

        from vision_jax.benchmarks.torchvision_models import classifier, features, stepping

        body = classifier(self._name)
        images = torch.from_numpy(self._batch.transpose(0, 3, 1, 2).copy())
        if self._train:
            return Side(stepping(body, lambda: features(body, images).square().mean()), model=body)
        body.eval()

        def run():
            with torch.no_grad():
                return features(body, images)

        return Side(run, model=body)
