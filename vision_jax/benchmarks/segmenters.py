"""Segmentation: pooling and unpooling, transposed convolution, SegNet-Basic and a dilated FCN."""
# pyright: reportMissingImports=false

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from vision_jax.benchmarks.case import Case, Settings, Side
from vision_jax.benchmarks.operations import compiled
from vision_jax.benchmarks.training import training
from vision_jax.layers.conv_transpose import ConvTranspose
from vision_jax.layers.upsampling import Upsample, halved
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.models.segmentation.segnet import segnet_basic
from vision_jax.pretrained.names import Layer
from vision_jax.pretrained.segmentation import fcn, fcn_from_torchvision
from vision_jax.pretrained.torchvision import filled
from vision_jax.training.state import Variables, initial_variables
from vision_jax.types import Mean

LabeledMaps = tuple[Float[Array | np.ndarray, "b h w 3"], Int[Array | np.ndarray, "b h w"]]

_CLASSES = 11
_CHANNELS = 64


class _Maps(Case):
    """An operation on maps of half an image's sides, in 64 channels; with or without its gradients."""

    def __init__(self, settings: Settings, gradient: bool):
        random = np.random.default_rng(0)
        self.images = settings.segmented
        self._gradient = gradient
        side = settings.canvas // 2
        self._maps = random.normal(size=(self.images, side, side, _CHANNELS)).astype(np.float32)
        self._random = random

    def _timed(self, function: Any, cotangent: Float[np.ndarray, "..."], *inputs: Any) -> Side:
        """Our operation, with the gradients of all its inputs if wanted; maps are [B, H, W, 64], float32."""

        def with_gradients(cotangent: Array, *inputs: Array) -> Any:
            """The outcome, and the gradient of each input."""
            outcome, pull = jax.vjp(function, *inputs)
            return outcome, *pull(cotangent)

        if not self._gradient:
            return compiled(function, *inputs)
        return compiled(with_gradients, cotangent, *inputs)

    def _timed_there(
        self, function: Any, cotangent: Float[np.ndarray, "n h w c"], *inputs: np.ndarray
    ) -> Side:
        """The peer's, with all axes in torch's order: [B, 64, H, W]."""
        import torch

        given = [torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in inputs]
        pulled = torch.from_numpy(cotangent.transpose(0, 3, 1, 2).copy())

        def run():
            if not self._gradient:
                with torch.no_grad():
                    return function(*given)
            fresh = [x.detach().requires_grad_() for x in given]
            outcome = function(*fresh)
            outcome.backward(pulled)
            return outcome, *(x.grad for x in fresh)

        return Side(run)


class MaxUnpooling(_Maps):
    """2x2 max pooling that returns positions, and unpooling to them."""

    def ours(self, peer: Any = None) -> Side:
        def there_and_back(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
            """Pools, and unpools to the positions of the maxima."""
            values, argmax = halved(x)
            return Upsample("max_unpooling").apply({}, values, argmax)  # type: ignore[return-value]

        return self._timed(there_and_back, self._maps[::-1].copy(), self._maps)

    def theirs(self) -> Side:
        from torch.nn.functional import max_pool2d, max_unpool2d

        def there_and_back(x: Any) -> Any:
            values, positions = max_pool2d(x, 2, return_indices=True)
            return max_unpool2d(values, positions, (2, 2))

        return self._timed_there(there_and_back, self._maps[::-1].copy(), self._maps)


class TransposedConvolution(_Maps):
    """A 4x4 transposed convolution of stride 2, of maps of a quarter of an image's sides."""

    def __init__(self, settings: Settings, gradient: bool):
        super().__init__(settings, gradient)
        self._cotangent, self._maps = self._maps, self._maps[:, ::2, ::2].copy()
        self._kernel = self._random.normal(size=(4, 4, _CHANNELS, _CHANNELS)).astype(np.float32)

    def ours(self, peer: Any = None) -> Side:
        layer = ConvTranspose(_CHANNELS, 4, 2, padding=1, bias=False)

        def enlarge(
            x: Float[Array, "n h w i"], kernel: Float[Array, "kh kw i o"]
        ) -> Float[Array, "n h2 w2 o"]:
            """Twice the height and width."""
            return layer.apply({"params": {"kernel": kernel}}, x)  # type: ignore[return-value]

        return self._timed(enlarge, self._cotangent, self._maps, self._kernel)

    def theirs(self) -> Side:
        from torch.nn.functional import conv_transpose2d

        # [kh, kw, o, i]: as a map's axes go, that becomes [kh, i, kw, o]; theirs is [i, o, kh, kw].
        def enlarge(x: Any, kernel: Any) -> Any:
            return conv_transpose2d(x, kernel.permute(1, 3, 0, 2), stride=2, padding=1)

        return self._timed_there(enlarge, self._cotangent, self._maps, self._kernel)


class NormalizedSegmenter(nn.Module):
    """A segmenter that takes normalized images, as the peer does.

    Attributes:
        segmenter: the system.
    """

    segmenter: Segmenter

    def __call__(self, batch: LabeledMaps, train: bool = False) -> dict[str, Float[Array, "..."]]:
        """Its logits, when training those of auxiliary scores too."""
        outputs = self.segmenter.scores(jnp.asarray(batch[0]), train)
        return {name: outputs[name] for name in ("logits", "auxiliary") if name in outputs}

    def logits(self, batch: LabeledMaps) -> Float[Array, "b h w k"]:
        """In evaluation: without auxiliary ones."""
        return self(batch)["logits"]

    def loss(self, batch: LabeledMaps, train: bool = True) -> dict[str, Mean]:
        """The segmenter's own."""
        return self.segmenter.terms(self(batch, train), jnp.asarray(batch[1]))


class SegmentingNetwork(Case):
    """A network on images of the canvas's size: logits, or a training step without dropout."""

    def __init__(self, settings: Settings, name: Literal["segnet_basic", "fcn_resnet50"], train: bool):
        random = np.random.default_rng(0)
        self.images = settings.segmented
        self._name: Literal["segnet_basic", "fcn_resnet50"] = name
        self._train = train
        shape = (self.images, settings.canvas, settings.canvas)
        images = random.normal(size=(*shape, 3)).astype(np.float32)
        self._batch = images, random.integers(0, _CLASSES, shape).astype(np.int32)

    def ours(self, peer: Any = None) -> Side:
        if self._name == "segnet_basic":
            segmenter = Segmenter(segnet_basic(_CLASSES))
        else:
            segmenter = fcn(self._name, _CLASSES)
        model = NormalizedSegmenter(segmenter)
        variables: Variables
        if peer is None:
            variables = initial_variables(model, jax.random.key(0), self._batch)
        else:
            tensors = {name: tensor.detach().numpy().copy() for name, tensor in peer.state_dict().items()}
            if self._name == "segnet_basic":
                shapes = jax.eval_shape(
                    partial(segmenter.init, method="scores"), jax.random.key(0), self._batch[0]
                )
                loaded = filled(shapes, _SEGNET_BASIC, tensors, "the peer's weights")
            else:
                _, loaded = fcn_from_torchvision(self._name, tensors)
            variables = {name: {"segmenter": tree} for name, tree in loaded.items()}
        if self._train:
            return training(model, variables, self._batch)
        return compiled(partial(model.apply, method="logits"), variables, self._batch)

    def theirs(self) -> Side:
        import torch
        from torch.nn.functional import cross_entropy as their_cross_entropy

        from vision_jax.benchmarks.torchvision_models import segmenter, stepping

        network = segmenter(self._name, _CLASSES)
        images = torch.from_numpy(self._batch[0].transpose(0, 3, 1, 2).copy())
        labels = torch.from_numpy(self._batch[1].astype(np.int64))

        def loss() -> Any:
            outputs = network(images)
            if not isinstance(outputs, dict):
                return their_cross_entropy(outputs, labels)
            terms = {name: their_cross_entropy(logits, labels) for name, logits in outputs.items()}
            return terms["out"] + 0.5 * terms["aux"]

        if self._train:
            step = stepping(network, loss)
            for module in network.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.eval()
            return Side(step, model=network)
        network.eval()

        def run():
            with torch.no_grad():
                outputs = network(images)
                return outputs["out"] if isinstance(outputs, dict) else outputs

        return Side(run, model=network)


# SegNet-Basic there and here; the first of its decoder's stages is the coarsest one's.
_SEGNET_BASIC = [
    *(
        Layer(f"encoders.{s}.{i}", f"network/encoder{s + 1}/conv1/{ours}")
        for s in range(4)
        for i, ours in enumerate(("conv", "norm"))
    ),
    *(
        Layer(f"decoders.{s}.{i}", f"network/decoder{4 - s}_conv1/{ours}")
        for s in range(4)
        for i, ours in enumerate(("conv", "norm"))
    ),
    Layer("score", "network/score"),
]
