"""Do skips sharpen boundaries?  FCN-32s, 16s and 8s (Long, Shelhamer and Darrell 2015, table 2).

    vision-jax sweep experiments/segmentation/fcn_skips --data labels:FOLDER

The paper's networks begin with VGG-16's ImageNet weights; here a ResNet-18 begins with random numbers, of
which frozen features then are, or with `--init FILE`. Near boundaries the gap should be widest: mIoU in bands
of some pixels around them. The paper trains 32s, adds one skip, and then the other; whether these stages pay
is evaluated at equal steps, as all skips at once do nearly as well (Shelhamer, Long and Darrell 2017, section
4.3). Measured: result.md.

A function of its own: the recipe `segmenter` neither trains in stages nor freezes all but the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, cast

import flax.linen as nn

from vision_jax.backbones import resnet
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers.norms import NormKind
from vision_jax.models.segmentation.fcn import FCN
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.pretrained import starting_from
from vision_jax.sweeps import Claim, PaperFigures, grid
from vision_jax.tasks import SegmentationTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Seed, UserError, check_options

SKIPS = {"32s": ("c5",), "16s": ("c5", "c4"), "8s": ("c5", "c4", "c3")}


def experiment(
    skips: Literal["32s", "16s", "8s"] = "8s",
    frozen: bool = False,
    staged: bool = False,
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    norm: NormKind = "batch",
    init: str | None = None,
    augment: Augment = Augment(scale=(0.75, 1.5)),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=400, batch_size=8, optimizer="adamw", learning_rate=2e-3, weight_decay=1e-2, warmup_steps=50
    ),
) -> Experiment:
    """Trains one FCN; evaluated near boundaries too.

    Args:
        skips: the finest stride that is scored.
        frozen: whether the backbone is frozen, and only scores are learned.
        staged: whether skips are added one after the other, each in as many steps, or are all there from
            the first step.
        data: `labels:FOLDER` of images and label PNGs, `voc:FOLDER` or `synthetic`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        norm: of the backbone.
        init: weights of the backbone: torchvision's ResNet-18, or a run folder.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    names = SKIPS[skips]
    if staged and train.steps < len(names):
        raise UserError(f"--train.steps {train.steps}: give {len(names)} or more, one a stage")

    def network(classes: int) -> FCN:
        return FCN(classes, resnet("resnet18", norm), names)

    def stage(used: int, steps: int) -> Gradient:
        waiting = network(1).clone(used=used).unused
        # The last upsampling is frozen at bilinear, as the paper's does.
        frozen_parts = dict.fromkeys((*(("backbone",) if frozen else ()), *waiting, "upsample_image"))
        return Gradient(replace(train, steps=steps), f"skips{used}", _using(used), tuple(frozen_parts))

    counts = range(1, len(names) + 1) if staged else [len(names)]
    return Experiment(
        model=lambda spec: Segmenter(network(len(spec.classes))),
        task=SegmentationTask(data, canvas, augment, boundaries=True),
        stages=tuple(stage(used, train.steps // len(counts)) for used in counts),
        seed=seed,
        init=starting_from(init, ("backbone",)),
    )


def _using(skips: int) -> Callable[[nn.Module], nn.Module]:
    def using(segmenter: nn.Module) -> nn.Module:
        network = cast(Segmenter, segmenter).network
        return segmenter.clone(network=network.clone(used=skips))

    return using


SWEEP = [
    *grid(skips=["32s", "16s", "8s"], frozen=[False], staged=[False], seed=range(3)),
    *grid(skips=["8s"], frozen=[False], staged=[True], seed=range(3)),
    *grid(skips=["32s"], frozen=[True], staged=[False], seed=range(3)),
]

METRICS = ("mIoU", "pixel_accuracy", "boundary_F1", "trimap/1", "trimap/4", "trimap/16")

PAPER = [
    PaperFigures(
        "Long et al. 2015, table 2, VOC 2011 val",
        {"skips": skips, "frozen": frozen, "staged": False},
        {"mIoU": iou, "pixel_accuracy": accuracy},
    )
    for skips, frozen, iou, accuracy in (
        ("32s", False, 0.594, 0.891),
        ("16s", False, 0.624, 0.900),
        ("8s", False, 0.627, 0.903),
        ("32s", True, 0.454, 0.830),
    )
]

CLAIMS = [
    *(
        Claim(text, metric, {"skips": fewer}, {"skips": more}, {"frozen": False, "staged": False})
        for text, metric, fewer, more in (
            ("one skip helps", "mIoU", "32s", "16s"),
            ("a second skip helps", "mIoU", "16s", "8s"),
            ("skips help within 4 pixels of boundaries", "trimap/4", "32s", "8s"),
        )
    ),
    Claim(
        "the backbone should be trained",
        "mIoU",
        {"frozen": True},
        {"frozen": False},
        {"skips": "32s", "staged": False},
    ),
    Claim(
        "skips in stages are better than all at once",
        "mIoU",
        {"staged": False},
        {"staged": True},
        {"skips": "8s", "frozen": False},
    ),
]
