r"""The literature's classifiers on a folder of images, from random numbers or from torchvision's weights.

    vision-jax train image_classifier                  # scikit-learn's 8x8 digits, enlarged
    vision-jax train image_classifier --data folder:FOLDER --canvas 224 224 --init resnet18.pth
    vision-jax train image_classifier --data folder:FOLDER --canvas 224 224 --init vgg16.pth \
        --network vgg16 --freeze backbone

`--init` prints what was loaded and what was not; the last layer is initialized afresh where the classes are
others. A run's backbone is a detector's too: `vision-jax train faster_rcnn --init RUN`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vision_jax.data.transforms.augment import Augment
from vision_jax.layers.norms import NormKind
from vision_jax.models.classification.image_classifier import ImageClassifier
from vision_jax.models.classification.inceptions import INCEPTIONS, inception
from vision_jax.pretrained import starting_from
from vision_jax.pretrained.torchvision import ARCHITECTURES
from vision_jax.tasks import ClassificationTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, FractionBelow1, Seed, UserError, check_options

Network = Literal[
    "alexnet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "googlenet",
    "inception_v2",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v1",
    "inception_resnet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
]


def experiment(
    data: str = "digits",
    canvas: tuple[Count, Count] | None = (64, 64),
    network: Network = "resnet18",
    norm: NormKind = "batch",
    label_smoothing: FractionBelow1 | None = None,
    augment: Augment = Augment(),
    init: str | None = None,
    freeze: tuple[str, ...] = (),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=200,
        batch_size=32,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=50,
        eval_every=100,
    ),
) -> Experiment:
    """Trains one classifier.

    Args:
        data: `folder:FOLDER` (a folder of images for each class), `idx:FOLDER`, `digits`, or `synthetic`
            (synthetic shapes, which are hard to tell apart).
        canvas: long and short side, in pixels, that images are resized into; 224 for torchvision's weights.
        network: which.
        norm: of its backbone: `batch` (over all devices), `frozen`, or `group`.
        label_smoothing: fraction of each label that is spread over all classes; the network's own if None.
        augment: how training images are varied.
        init: what to start from: a file of torchvision's weights (a backbone alone will do), or a run folder.
        freeze: frozen parts, such as `stem stage1` or `backbone`.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda spec: classifier(network, norm, label_smoothing, len(spec.classes)),
        task=ClassificationTask(data, canvas, augment),
        stages=(Gradient(train, freeze=freeze),),
        seed=seed,
        init=starting_from(init),
    )


def classifier(
    network: Network, norm: NormKind, label_smoothing: float | None, num_classes: int
) -> ImageClassifier:
    """The network for so many classes, with another norm and smoothing than its own."""
    if network in INCEPTIONS:
        model = inception(network, num_classes)
    else:
        model = ARCHITECTURES[network]().build(num_classes)
    if label_smoothing is not None:
        model = model.clone(label_smoothing=label_smoothing)
    if norm == "batch":
        return model
    if getattr(model.backbone, "norm", None) is None:
        raise UserError(f"--norm {norm}: {network} has no norms")
    heads = tuple(
        replace(each, head=each.head.clone(norm=norm)) if hasattr(each.head, "norm") else each
        for each in model.auxiliary
    )
    return model.clone(backbone=model.backbone.clone(norm=norm), auxiliary=heads)
