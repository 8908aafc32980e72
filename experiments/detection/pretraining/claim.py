"""What does a backbone that has seen synthetic shapes save?  (Girshick et al. 2014; He et al. 2019.)

    vision-jax train faster_rcnn --train.steps 700 --train.eval-every 0 --out runs/scenes
    vision-jax sweep experiments/detection/pretraining --init runs/scenes --data voc:FOLDER --canvas 320 240

Girshick et al. found that a network trained on many images of other classes is the best start for a detector
on few (R-CNN, section 2.3), and He, Girshick and Dollar that it saves time but no accuracy if one trains long
enough ("Rethinking ImageNet pre-training"). Here the many images are synthetic, six kinds of shapes, and
digits, and the few are the 205 of BCCD. Three starts: random numbers; the backbone; the backbone with its
first two stages frozen. Measured: result.md.

A function of its own, around the recipe: the arms are starts, each a pair of the recipe's `init` and
`freeze`, of which only the backbone's weights are taken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vision_jax.data.transforms.augment import Augment
from vision_jax.pretrained import starting_from
from vision_jax.recipes import faster_rcnn
from vision_jax.sweeps import Claim, grid
from vision_jax.training.experiment import Experiment, TrainConfig
from vision_jax.types import Count, Seed, UserError, check_options


def experiment(
    init: str | None = None,
    start: Literal["random", "backbone", "frozen"] = "backbone",
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    augment: Augment = Augment(vflip=0.5, scale=(0.8, 1.2)),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=500,
        batch_size=4,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=50,
        eval_every=100,
    ),
) -> Experiment:
    """Trains the recipe `faster_rcnn`.

    Args:
        init: a run folder of `faster_rcnn` or `image_classifier`, or torchvision's ResNet-18.
        start: random numbers, its backbone, or its backbone with stem and first two stages frozen.
        data: `coco:FOLDER`, `voc:FOLDER` or `synthetic`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    if init is None and start != "random":
        raise UserError(f"--start {start} needs --init: a run folder or a file of weights to start from")
    recipe = faster_rcnn(
        data=data,
        canvas=canvas,
        augment=augment,
        freeze=("stem", "stage1", "stage2") if start == "frozen" else (),
        seed=seed,
        train=train,
    )
    return replace(recipe, init=None if start == "random" else starting_from(init, ("backbone",)))


SWEEP = grid(start=["random", "backbone", "frozen"], seed=range(3))

METRICS = ("AP50", "AP")

CLAIMS = [
    Claim("a pretrained backbone is the better start", "AP50", {"start": "random"}, {"start": "backbone"}),
    Claim("its first stages can be frozen", "AP50", {"start": "random"}, {"start": "frozen"}),
]
