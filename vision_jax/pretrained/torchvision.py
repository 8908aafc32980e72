"""Torchvision's classifiers: a table of layers for each family, their weights, their preprocessing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, UInt8

from vision_jax.backbones.alexnet import AlexNet
from vision_jax.backbones.googlenet import MODULES, GoogLeNet
from vision_jax.backbones.inception import InceptionV3
from vision_jax.backbones.mobilenet import mobilenet_v2, mobilenet_v3
from vision_jax.backbones.resnet import STAGES as RESNETS
from vision_jax.backbones.resnet import ResNetName, is_bottleneck, resnet
from vision_jax.backbones.vgg import STAGES as VGGS
from vision_jax.backbones.vgg import VGGName, vgg
from vision_jax.layers.conv import torch_uniform
from vision_jax.layers.images import HALF
from vision_jax.models.classification.image_classifier import (
    Auxiliary,
    AverageHead,
    ImageClassifier,
    InceptionAuxiliaryHead,
    LayersHead,
    PooledHead,
    SwishHead,
)
from vision_jax.pretrained.layouts import namings
from vision_jax.pretrained.names import Layer, filled, pairs, to_theirs
from vision_jax.pretrained.weights import read_weights
from vision_jax.pretrained.wrappers import plain_names
from vision_jax.training.predict import load_variables
from vision_jax.types import UserError


@dataclass(frozen=True)
class Architecture:
    """A classifier of torchvision.

    Attributes:
        build: number of classes -> our module.
        layers: the table.
        source: the publication.
        resize: shorter side in pixels that images are resized to.
        crop: side in pixels of the square that is cut from their middle.
    """

    build: Callable[[int], ImageClassifier]
    layers: tuple[Layer, ...]
    source: str
    resize: int = 256
    crop: int = 224


def _alexnet() -> Architecture:
    convolutions = [Layer(f"features.{i}", f"backbone/conv{n + 1}") for n, i in enumerate((0, 3, 6, 8, 10))]
    head = LayersHead(side=6, after=False, kernel_init=torch_uniform)
    layers = (
        *convolutions,
        Layer("classifier.1", "head/layer1", (6, 6)),
        Layer("classifier.4", "head/layer2"),
        Layer("classifier.6", "classifier"),
    )
    return Architecture(lambda classes: ImageClassifier(AlexNet(), classes, head), layers, "Krizhevsky 2014")


def _vgg(name: VGGName, norm: bool) -> Architecture:
    layers, i = [], 0
    for s, count in enumerate(VGGS[name]):
        for n in range(count):
            layers.append(Layer(f"features.{i}", f"backbone/stage{s + 1}_conv{n + 1}"))
            if norm:
                layers.append(Layer(f"features.{i + 1}", f"backbone/stage{s + 1}_norm{n + 1}"))
            i += 3 if norm else 2
        i += 1  # their pooling
    layers += [
        Layer("classifier.0", "head/layer1", (7, 7)),
        Layer("classifier.3", "head/layer2"),
        Layer("classifier.6", "classifier"),
    ]

    def build(classes: int) -> ImageClassifier:
        return ImageClassifier(vgg(name, "batch" if norm else None), classes, LayersHead())

    return Architecture(build, tuple(layers), "Simonyan and Zisserman 2015")


def _resnet(name: ResNetName) -> Architecture:
    layers = (
        *resnet_layers(RESNETS[name], is_bottleneck(name), "backbone/"),
        Layer("fc", "classifier"),
    )
    return Architecture(lambda classes: ImageClassifier(resnet(name), classes), layers, "He et al. 2016")


def resnet_layers(stages: Sequence[int], bottleneck: bool, ours: str = "") -> list[Layer]:
    """The table of a ResNet without its classifier.

    Args:
        stages: blocks of each.
        bottleneck: kind of block.
        ours: what is before our paths.
    """
    layers = [Layer("conv1", f"{ours}stem_conv"), Layer("bn1", f"{ours}stem_norm")]
    for s, blocks in enumerate(stages):
        for b in range(blocks):
            there, here = f"layer{s + 1}.{b}", f"{ours}stage{s + 1}_block{b + 1}"
            for i in range(3 if bottleneck else 2):
                layers.append(Layer(f"{there}.conv{i + 1}", f"{here}/conv{i + 1}"))
                layers.append(Layer(f"{there}.bn{i + 1}", f"{here}/norm{i + 1}"))
            if b == 0 and (s > 0 or bottleneck):
                layers.append(Layer(f"{there}.downsample.0", f"{here}/conv_shortcut"))
                layers.append(Layer(f"{there}.downsample.1", f"{here}/norm_shortcut"))
    return layers


def _mobilenet_v2() -> Architecture:
    backbone = mobilenet_v2()
    layers = [*_convolution("features.0.", "backbone/stem", 0)]
    for i, shape in enumerate(backbone.blocks):
        theirs, ours = f"features.{i + 1}.conv.", f"backbone/block{i + 1}"
        widened = shape.wide != (backbone.stem if i == 0 else backbone.blocks[i - 1].out)
        if widened:
            layers += _convolution(f"{theirs}0.", f"{ours}/widen", 0)
        layers += _convolution(f"{theirs}{int(widened)}.", f"{ours}/filter", 0)
        layers += _convolution(theirs, f"{ours}/narrow", 1 + int(widened))
    layers += _convolution(f"features.{len(backbone.blocks) + 1}.", "backbone/last", 0)
    layers.append(Layer("classifier.1", "classifier"))
    head, source = AverageHead(0.2), "Sandler et al. 2018"
    return Architecture(lambda classes: ImageClassifier(backbone, classes, head), tuple(layers), source)


def _mobilenet_v3(size: Literal["large", "small"]) -> Architecture:
    backbone = mobilenet_v3(size)
    layers = [*_convolution("features.0.", "backbone/stem", 0)]
    for i, shape in enumerate(backbone.blocks):
        theirs, ours, n = f"features.{i + 1}.block.", f"backbone/block{i + 1}", 0
        if shape.wide != (backbone.stem if i == 0 else backbone.blocks[i - 1].out):
            layers += _convolution(f"{theirs}{n}.", f"{ours}/widen", 0)
            n += 1
        layers += _convolution(f"{theirs}{n}.", f"{ours}/filter", 0)
        if shape.excite:
            n += 1
            layers.append(Layer(f"{theirs}{n}.fc1", f"{ours}/weigh/squeeze"))
            layers.append(Layer(f"{theirs}{n}.fc2", f"{ours}/weigh/excite"))
        layers += _convolution(f"{theirs}{n + 1}.", f"{ours}/narrow", 0)
    layers += _convolution(f"features.{len(backbone.blocks) + 1}.", "backbone/last", 0)
    layers += [Layer("classifier.0", "head/layer"), Layer("classifier.3", "classifier")]
    head, source = SwishHead(1280 if size == "large" else 1024), "Howard et al. 2019"
    return Architecture(lambda classes: ImageClassifier(backbone, classes, head), tuple(layers), source)


def _googlenet() -> Architecture:
    layers = [layer for i in (1, 2, 3) for layer in _brick(f"conv{i}", f"backbone/conv{i}")]
    for name in MODULES:
        theirs, ours = f"inception{name}", f"backbone/inception{name}"
        layers += _brick(f"{theirs}.branch1", f"{ours}/branch1")
        for branch in (2, 3):
            for i in (0, 1):
                layers += _brick(f"{theirs}.branch{branch}.{i}", f"{ours}/branch{branch}_{i + 1}")
        layers += _brick(f"{theirs}.branch4.1", f"{ours}/branch4")
    for i in (1, 2):
        layers += _brick(f"aux{i}.conv", f"auxiliary_heads_{i - 1}/conv")
        layers.append(Layer(f"aux{i}.fc1", f"auxiliary_heads_{i - 1}/layer", (4, 4)))
        layers.append(Layer(f"aux{i}.fc2", f"auxiliary_classifiers_{i - 1}"))
    layers.append(Layer("fc", "classifier"))

    def build(classes: int) -> ImageClassifier:
        auxiliary = tuple(Auxiliary(level, PooledHead()) for level in ("4a", "4d"))
        head = AverageHead(0.2)
        return ImageClassifier(GoogLeNet(3), classes, head, auxiliary=auxiliary, mean=HALF, std=HALF)

    return Architecture(build, tuple(layers), "Szegedy et al. 2015")


# Our ways through Inception v3's modules, by their names.
_INCEPTION_V3 = {
    "5": {"one": "branch1x1", "five": "branch5x5", "double": "branch3x3dbl", "pool": "branch_pool"},
    "6a": {"three": "branch3x3", "double": "branch3x3dbl"},
    "6": {"one": "branch1x1", "seven": "branch7x7", "double": "branch7x7dbl", "pool": "branch_pool"},
    "7a": {"three": "branch3x3", "seven": "branch7x7x3"},
    "7": {"one": "branch1x1", "three": "branch3x3", "double": "branch3x3dbl", "pool": "branch_pool"},
}
_INCEPTION_V3_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")


def _inception_v3() -> Architecture:
    def build(classes: int) -> ImageClassifier:
        auxiliary = (Auxiliary("c4", InceptionAuxiliaryHead()),)
        head = AverageHead(0.5)
        return ImageClassifier(InceptionV3(), classes, head, auxiliary=auxiliary, mean=HALF, std=HALF)

    image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), image)["params"]
    layers = []
    for module, bricks in shapes.items():
        for brick in bricks if module.startswith("mixed") else ():
            name = module.removeprefix("mixed")
            table = _INCEPTION_V3.get(name) or _INCEPTION_V3[name[0]]
            way, _, index = brick.partition("_")
            theirs = f"Mixed_{name}.{table[way]}" + (f"_{index}" if index else "")
            layers += _brick(theirs, f"backbone/{module}/{brick}")
    for i, theirs in enumerate(_INCEPTION_V3_STEM):
        layers += _brick(theirs, f"backbone/conv{i + 1}")
    for i in (0, 1):
        layers += _brick(f"AuxLogits.conv{i}", f"auxiliary_heads_0/conv{i + 1}")
    layers += [Layer("AuxLogits.fc", "auxiliary_classifiers_0"), Layer("fc", "classifier")]
    return Architecture(build, tuple(layers), "Szegedy et al. 2016", resize=342, crop=299)


def _brick(theirs: str, ours: str) -> tuple[Layer, Layer]:
    """A convolution and its norm."""
    return Layer(f"{theirs}.conv", f"{ours}/conv"), Layer(f"{theirs}.bn", f"{ours}/norm")


def _convolution(theirs: str, ours: str, first: int) -> tuple[Layer, Layer]:
    """A convolution and its norm, in a sequence of theirs from the index `first` on."""
    return Layer(f"{theirs}{first}", ours), Layer(f"{theirs}{first + 1}", f"{ours}_norm")


ARCHITECTURES: dict[str, Callable[[], Architecture]] = {
    "alexnet": _alexnet,
    **{name: partial(_vgg, name, False) for name in VGGS},
    **{f"{name}_bn": partial(_vgg, name, True) for name in VGGS},
    **{name: partial(_resnet, name) for name in RESNETS},
    "googlenet": _googlenet,
    "inception_v3": _inception_v3,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3_large": partial(_mobilenet_v3, "large"),
    "mobilenet_v3_small": partial(_mobilenet_v3, "small"),
}


@dataclass(frozen=True)
class Pretrained:
    """A classifier with its weights.

    Attributes:
        model: the module.
        variables: its parameters and statistics.
        resize, crop: as in `Architecture`.
    """

    model: ImageClassifier
    variables: Any
    resize: int
    crop: int

    def logits(self, x: Float[Array | np.ndarray, "b h w 3"]) -> Float[Array, "b k"]:
        """Scores of normalized images of any size that the architecture takes."""
        return self.maps(x)["logits"]

    def maps(self, x: Float[Array | np.ndarray, "b h w 3"]) -> dict[str, Float[Array, "..."]]:
        """The backbone's maps by name, and `logits`, of normalized images."""
        return self._compiled(self.variables, jnp.asarray(x, jnp.float32))

    @cached_property
    def _compiled(self) -> Callable[..., dict[str, Array]]:
        return jax.jit(partial(self.model.apply, method="scores"))

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "_crop _crop 3"]:
        """An image as torchvision's `ImageClassification` makes it of a PIL image.

        Its shorter side is resized (bilinear, antialiased, in bytes), a square is cut from the middle, and
        bytes are normalized by the mean and deviation that the network was trained with.
        """
        from PIL import Image

        height, width = image.shape[:2]
        short = min(height, width)
        size = (int(self.resize * width / short), int(self.resize * height / short))
        resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        top, left = (round((length - self.crop) / 2) for length in resized.shape[:2])
        cut = resized[top : top + self.crop, left : left + self.crop]
        return ((cut.astype(np.float32) / 255 - self.model.mean) / self.model.std).astype(np.float32)

    def predict(self, image: UInt8[np.ndarray, "h w 3"], best: int = 5) -> list[tuple[int, float]]:
        """The most probable classes of an image with their probabilities, best first."""
        probabilities = np.asarray(nn.softmax(self.logits(self.prepare(image)[None])[0]))
        order = np.argsort(-probabilities, kind="stable")[:best]
        return [(int(k), float(probabilities[k])) for k in order]


def from_torchvision(name: str, weights: str | os.PathLike[str] | Mapping[str, np.ndarray]) -> Pretrained:
    """A classifier of torchvision with weights from its file.

    Args:
        name: torchvision's: see `ARCHITECTURES`.
        weights: a `.pth` or `.safetensors` file of its `state_dict`; a folder that `vision-jax convert`
            wrote, or a run's, of that architecture; or arrays by torchvision's names, or by those that
            `recognize` knows. The last layer says how many classes there are.

    Returns:
        Our module, its variables (float32), and the preprocessing of images.

    Raises:
        UserError: an unknown name; a file that cannot be read; a tensor that is missing, left over, or of
            another shape than the layer's.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"there is no model {name!r}; known: {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[name]()
    where = "the weights" if isinstance(weights, Mapping) else str(weights)
    tensors = plain_names(weights) if isinstance(weights, Mapping) else _read(name, Path(weights))
    tensors = next((each for each in namings(tensors) if _is_of(name, each)), tensors)
    last = f"{architecture.layers[-1].theirs}.weight"
    if last not in tensors:
        missing = missing_in_head(name, tensors)
        if missing is None:
            raise UserError(f"{where} has no {last}: it is not of {name}{alike(tensors)}")
        raise UserError(
            f"{where} is the backbone of {name} alone, without its classifier: {', '.join(missing)} missing. "
            "Classifying needs a file with them; a run can start from the backbone alone "
            "(vision-jax train EXPERIMENT.py --init FILE)"
        )
    model = architecture.build((*np.shape(tensors[last]), 1)[0] or 1)
    if not any(key.lower().startswith("aux") for key in tensors):  # built with aux_logits=False
        model = model.clone(auxiliary=())
    image = jax.ShapeDtypeStruct((1, architecture.crop, architecture.crop, 3), jnp.float32)
    shapes = jax.eval_shape(partial(model.init, method="scores"), jax.random.key(0), image)
    variables = filled(shapes, architecture.layers, tensors, f"{where}, as {name}")
    return Pretrained(model, variables, architecture.resize, architecture.crop)


def _read(name: str, path: Path) -> dict[str, np.ndarray]:
    """Tensors by torchvision's names, from its file or from a checkpoint of ours."""
    return to_torchvision(name, load_variables(path, "best")) if path.is_dir() else read_weights(path)


def recognize(tensors: Mapping[str, np.ndarray]) -> str | None:
    """The architecture whose layers these tensors are, by their names.

    Args:
        tensors: by the names of torchvision or of another public layout (`layouts.namings`); a backbone
            alone, or with another classifier instead of its own.

    Returns:
        Its name; None for no classifier of torchvision.
    """
    found = recognized(tensors)
    return None if found is None else found[0]


def recognized(tensors: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]] | None:
    """The architecture as `recognize` finds it, and the tensors by torchvision's names."""
    return next(
        ((name, named) for named in namings(tensors) for name in ARCHITECTURES if _is_of(name, named)), None
    )


@cache
def _theirs(name: str) -> tuple[frozenset[str], frozenset[str], str]:
    """Torchvision's names of the backbone's layers, of all layers, and what the classifier's begin with."""
    layers = ARCHITECTURES[name]().layers
    backbone = frozenset(layer.theirs for layer in layers if layer.ours.startswith("backbone/"))
    return backbone, frozenset(layer.theirs for layer in layers), layers[-1].theirs.partition(".")[0] + "."


def _is_of(name: str, tensors: Mapping[str, Any]) -> bool:
    """Whether the tensors are of an architecture: all of its backbone, and besides at most a classifier."""
    found = {key.removesuffix(".weight") for key in tensors if key.endswith(".weight")}
    backbone, layers, classifier = _theirs(name)
    return backbone <= found and all(key.startswith(classifier) for key in found - layers)


def missing_in_head(name: str, tensors: Mapping[str, Any]) -> list[str] | None:
    """What tensors lack of the layers after an architecture's backbone; None where they are not of it.

    Args:
        name: torchvision's.
        tensors: by torchvision's names.

    Returns:
        The names of weights and biases; auxiliary classifiers may be missing and are left out.
    """
    if not _is_of(name, tensors):
        return None
    backbone, layers, _ = _theirs(name)
    head = [layer for layer in sorted(layers - backbone) if not layer.lower().startswith("aux")]
    return [key for layer in head for key in (f"{layer}.weight", f"{layer}.bias") if key not in tensors]


def alike(tensors: Mapping[str, np.ndarray]) -> str:
    """What these tensors could be of, for the end of a message."""
    name = recognize(tensors)
    if name is not None:
        return f"; it may be of {name}"
    return f", whose tensors begin with {', '.join(list(tensors)[:3])}" if tensors else ""


def to_torchvision(name: str, variables: Any) -> dict[str, np.ndarray]:
    """The other way: tensors by torchvision's names, for its `load_state_dict`.

    Args:
        name: torchvision's.
        variables: of our module of that name, as `from_torchvision` returns them.
    """
    ours: dict[str, Any] = flatten_dict(variables, sep="/")
    found = pairs(ARCHITECTURES[name]().layers, ours)
    return {theirs: to_theirs(np.asarray(ours[path]), map_size) for theirs, path, map_size in found}
