"""Classifiers of the literature: logits of a batch of images, and a step that learns their classes."""
# pyright: reportMissingImports=false

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from vision_jax.benchmarks.case import Case, Settings, Side
from vision_jax.benchmarks.operations import compiled
from vision_jax.benchmarks.training import training
from vision_jax.models.classification.image_classifier import ImageClassifier
from vision_jax.pretrained.torchvision import ARCHITECTURES, from_torchvision
from vision_jax.training.state import Variables, initial_variables
from vision_jax.types import Mean

LabeledImages = tuple[Float[Array | np.ndarray, "b h w 3"], Int[Array | np.ndarray, " b"]]


class NormalizedClassifier(nn.Module):
    """A classifier that takes normalized images and drops nothing, as the peer's does.

    Attributes:
        classifier: the network.
    """

    classifier: ImageClassifier

    def __call__(self, batch: LabeledImages, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Its logits, when training those of auxiliary classifiers too."""
        outputs = self.classifier.scores(jnp.asarray(batch[0]), train)
        return {name: value for name, value in outputs.items() if name.startswith(("logits", "auxiliary"))}

    def logits(self, batch: LabeledImages) -> Float[Array, "b k"]:
        """In evaluation: those of the last layer alone."""
        return self(batch)["logits"]

    def loss(self, batch: LabeledImages, train: bool = True) -> dict[str, Mean]:
        """The cross-entropy of the logits, and of each auxiliary classifier's, by its weight."""
        weights = {f"auxiliary/{i + 1}": each.weight for i, each in enumerate(self.classifier.auxiliary)}
        terms = {}
        for name, logits in self(batch, train).items():
            each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(batch[1]))
            terms[name] = Mean(weights.get(name, 1.0) * each.sum(), jnp.float32(len(each)))
        return terms


class Classifier(Case):
    """One of torchvision's: forward with running statistics, or a training step without dropout.

    Images are as large as those that its weights are for, where `Settings.image` is 224.
    """

    def __init__(self, settings: Settings, name: str, train: bool):
        random = np.random.default_rng(0)
        self.images = settings.batch
        self._architecture = ARCHITECTURES[name]()
        self._name, self._train = name, train
        side = round(settings.image * self._architecture.crop / 224)
        images = random.normal(size=(settings.batch, side, side, 3)).astype(np.float32)
        self._batch = images, random.integers(0, 1000, settings.batch).astype(np.int32)

    def ours(self, peer: Any = None) -> Side:
        model = NormalizedClassifier(self._architecture.build(1000))
        variables: Variables
        if peer is None:
            variables = initial_variables(model, jax.random.key(0), self._batch)
        else:
            tensors = {name: tensor.detach().numpy().copy() for name, tensor in peer.state_dict().items()}
            loaded = from_torchvision(self._name, tensors).variables
            variables = {name: {"classifier": tree} for name, tree in loaded.items()}
        if self._train:
            return training(model, variables, self._batch)
        return compiled(partial(model.apply, method="logits"), variables, self._batch)

    def theirs(self) -> Side:
        import torch
        from torch.nn.functional import cross_entropy

        from vision_jax.benchmarks.torchvision_models import classifier, stepping

        network = classifier(self._name)
        images = torch.from_numpy(self._batch[0].transpose(0, 3, 1, 2).copy())
        labels = torch.from_numpy(self._batch[1].astype(np.int64))

        def loss() -> Any:
            outputs = network(images)
            if not isinstance(outputs, tuple):
                return cross_entropy(outputs, labels)
            return cross_entropy(outputs[0], labels) + 0.3 * cross_entropy(outputs[1], labels)

        if self._train:
            step = stepping(network, loss)
            for module in network.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.eval()
            return Side(step, model=network)
        network.eval()

        def run():
            with torch.no_grad():
                return network(images)

        return Side(run, model=network)
