"""What does a backbone that has seen drawn shapes save?  (Girshick et al. 2014; He et al. 2019.)

    vision-jax train experiments/faster_rcnn.py --train.steps 700 --train.eval-every 0 --out runs/scenes
    vision-jax sweep experiments/pretraining.py --learnt runs/scenes --data voc:FOLDER --canvas 320 240

Girshick et al. found that a network trained on many images of other classes is the best start for a detector
on few (R-CNN, section 2.3), and He, Girshick and Dollar that it saves time but no accuracy if one trains long
enough ("Rethinking ImageNet pre-training"). Here the many images are drawn, six kinds of shapes, and digits,
and the few are the 205 of BCCD. Three starts: random numbers; the backbone; the backbone with its first two
stages frozen. Measured: experiments/results/pretraining.md.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.backbones import resnet
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers import FPN
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead
from vision_jax.pretrained import starting_from
from vision_jax.sweeps import Claim, grid
from vision_jax.tasks import detection
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Seed, UserError, check_options


def experiment(
    learnt: str | None = None,
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
    """Trains the detector of `faster_rcnn.py`.

    Args:
        learnt: a run folder of `faster_rcnn.py` or `image_classifier.py`, or torchvision's ResNet-18.
        start: random numbers, its backbone, or its backbone whose stem and first two stages stay.
        data: `coco:FOLDER`, `voc:FOLDER` or `synthetic`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and every draw.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    if learnt is None and start != "random":
        raise UserError(f"--start {start} needs --learnt: a run folder or a file of weights to start from")
    return Experiment(
        model=lambda classes: FasterRCNN(
            backbone=resnet("resnet18", "group"),
            num_classes=len(classes),
            neck=FPN(128, "group"),
            rpn=RPN((16, 32, 64, 128, 256)),
            train_proposals=(1000, 1000),
            test_proposals=(1000, 300),
            roi_samples=128,
            head=MLPHead(512),
        ),
        task=detection(data, canvas, augment),
        stages=(Gradient(train, freeze=("stem", "stage1", "stage2") if start == "frozen" else ()),),
        seed=seed,
        init=None if start == "random" else starting_from(learnt, ("backbone",)),
    )


SWEEP = grid(start=["random", "backbone", "frozen"], seed=range(3))

METRICS = ("AP50", "AP")

CLAIMS = [
    Claim("a learnt backbone is the better start", "AP50", {"start": "random"}, {"start": "backbone"}),
    Claim("its first stages can stay as they are", "AP50", {"start": "random"}, {"start": "frozen"}),
]
