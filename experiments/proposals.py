"""How many proposals does a detector need at test time?  (Ren et al. 2015, table 2: the top 300.)

    vision-jax sweep experiments/proposals.py

One training a seed; everything else is asked of its checkpoint: AP and time against the number of proposals,
AP against the suppression threshold of detections, and the share of objects that the RPN's own boxes cover.
In the paper (ZF net, VOC 2007, mAP at IoU 0.5) 100 proposals give 55.1, 300 give 56.8.

Here Faster R-CNN, ResNet-18-FPN from random numbers, on synthetic scenes: AP50 of 20 with 10 proposals, 25
with 30, 26.5 with 100, 27 with 300 and with 1,000 (`results/proposals.md`).
"""

from __future__ import annotations

from dataclasses import fields

import flax.linen as nn

from vision_jax.backbones import ResNetName, resnet
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers import FPN
from vision_jax.layers.norms import NormKind
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead
from vision_jax.sweeps import Claim, PaperFigures, grid
from vision_jax.tasks import detection
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, DetectionBatch, Detections, Five, Positive, Seed, check_options

COUNTS = (10, 30, 100, 300, 1000)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


class ProposalsAlone(FasterRCNN):
    """Predicts the RPN's boxes as they are, all of the first class; its recall is what to look at."""

    def predict(self, batch: DetectionBatch) -> Detections:
        maps = self._maps(batch, train=False)
        raw, anchors = self._score_anchors(maps, batch)
        found = self._propose(raw, anchors, batch, self.test_proposals)
        labels = found.valid.astype("int32") - 1
        return Detections(boxes=found.boxes, scores=found.scores, labels=labels, valid=found.valid)


def experiment(
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    backbone: ResNetName = "resnet18",
    norm: NormKind = "group",
    fpn_features: Count = 128,
    head_features: Count = 512,
    anchor_sizes: Five[Positive] = (16, 32, 64, 128, 256),
    roi_samples: Count = 64,
    augment: Augment = Augment(),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=640,
        batch_size=2,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=60,
    ),
) -> Experiment:
    """Trains one Faster R-CNN, and predicts with it in many ways.

    Args:
        data: `synthetic`, `coco:FOLDER` or `voc:FOLDER`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        backbone: which ResNet.
        norm: of the backbone and the pyramid: `group`, `batch` or `frozen`.
        fpn_features: channels of the pyramid.
        head_features: hidden units of the box head.
        anchor_sizes: side of a square anchor in canvas pixels, for each of the five levels.
        roi_samples: proposals an image that the box head learns from.
        augment: how training images are varied.
        seed: of the initial parameters, the order of the data and every draw.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda classes: FasterRCNN(
            backbone=resnet(backbone, norm),
            num_classes=len(classes),
            neck=FPN(fpn_features, norm),
            rpn=RPN(anchor_sizes),
            head=MLPHead(head_features),
            train_proposals=(1000, 1000),
            test_proposals=(1000, 300),
            roi_samples=roi_samples,
        ),
        task=detection(data, canvas, augment),
        stages=(Gradient(train),),
        seed=seed,
        evaluations={
            **{f"proposals={n}": lambda m, n=n: m.copy(test_proposals=(1000, n)) for n in COUNTS},
            **{f"nms={t}": lambda m, t=t: m.copy(nms_threshold=t) for t in THRESHOLDS},
            **{f"rpn={n}": lambda m, n=n: _proposals_alone(m, n) for n in COUNTS},
        },
    )


def _proposals_alone(model: nn.Module, count: int) -> ProposalsAlone:
    settings = {f.name: getattr(model, f.name) for f in fields(model) if f.name not in ("parent", "name")}
    return ProposalsAlone(**{**settings, "test_proposals": (1000, count)})


SWEEP = grid(seed=range(3))

METRICS = ("AP", "recall", "AP50")

PAPER = [
    PaperFigures("Ren et al. 2015, table 2", {"evaluation": f"proposals={count}"}, {"AP50": figure})
    for count, figure in ((100, 0.551), (300, 0.568))
]

CLAIMS = [
    Claim(text, "AP50", {"evaluation": f"proposals={fewer}"}, {"evaluation": f"proposals={more}"})
    for text, fewer, more in (
        ("300 proposals give more than 100", 100, 300),
        ("1000 give more than 300", 300, 1000),
    )
]
