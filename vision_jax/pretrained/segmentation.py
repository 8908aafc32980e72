"""Torchvision's fully convolutional networks: ResNets dilated to stride 8, scored and interpolated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.backbones.resnet import STAGES, ResNet
from vision_jax.models.segmentation.fcn import FCN, FCNHead
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.pretrained.names import Layer, filled
from vision_jax.pretrained.torchvision import alike, resnet_layers
from vision_jax.pretrained.weights import read_weights
from vision_jax.pretrained.wrappers import plain_names
from vision_jax.types import UserError

FCNName = Literal["fcn_resnet50", "fcn_resnet101"]
_RESNETS = {"fcn_resnet50": STAGES["resnet50"], "fcn_resnet101": STAGES["resnet101"]}
_SCORES = "classifier.4"


def fcn(name: FCNName, num_classes: int = 21, auxiliary: bool = True) -> Segmenter:
    """Torchvision's FCN: scores of a dilated ResNet's last map, interpolated to the image.

    Args:
        name: torchvision's.
        num_classes: K, background included.
        auxiliary: whether the map before the last is scored in training too.
    """
    network = FCN(
        num_classes,
        ResNet(_RESNETS[name], bottleneck=True, output_stride=8),
        skips=("c5",),
        head=FCNHead(512),
        auxiliary_level="c4" if auxiliary else None,
        auxiliary_head=FCNHead(256, layer=1) if auxiliary else None,
        upsampling="bilinear",
    )
    return Segmenter(network, auxiliary_weight=0.5)


def fcn_from_torchvision(
    name: FCNName, weights: str | os.PathLike[str] | Mapping[str, np.ndarray]
) -> tuple[Segmenter, Any]:
    """An FCN with weights from torchvision's file.

    Args:
        name: torchvision's.
        weights: a `.pth` or `.safetensors` file of its `state_dict`, in which nothing is run, or arrays by
            torchvision's names. The last layer says how many classes there are.

    Returns:
        The module and its variables (float32). Its images are normalized by ImageNet's mean and deviation,
        as torchvision's are.

    Raises:
        UserError: an unknown name; a file that cannot be read; a tensor that is missing, left over, or of
            another shape than the layer's.
    """
    if name not in _RESNETS:
        raise UserError(f"there is no FCN {name!r}; known: {', '.join(_RESNETS)}")
    where = "the weights" if isinstance(weights, Mapping) else str(weights)
    tensors = plain_names(weights) if isinstance(weights, Mapping) else read_weights(Path(weights))
    if f"{_SCORES}.weight" not in tensors:
        raise UserError(f"{where} has no {_SCORES}.weight: it is not of {name}{alike(tensors)}")
    auxiliary = any(key.startswith("aux_classifier") for key in tensors)
    model = fcn(name, len(tensors[f"{_SCORES}.weight"]), auxiliary)
    layers = [
        *(
            Layer(f"backbone.{layer.theirs}", layer.ours)
            for layer in resnet_layers(_RESNETS[name], True, "network/backbone/")
        ),
        Layer("classifier.0", "network/head/conv/conv"),
        Layer("classifier.1", "network/head/conv/norm"),
        Layer(_SCORES, "network/score_c5"),
        Layer("aux_classifier.0", "network/auxiliary_head/conv/conv"),
        Layer("aux_classifier.1", "network/auxiliary_head/conv/norm"),
        Layer("aux_classifier.4", "network/score_auxiliary"),
    ]
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, method="scores"), jax.random.key(0), image)
    return model, filled(shapes, layers, tensors, f"{where}, as {name}")
