"""Faster R-CNN from scratch, on synthetic scenes or on a folder of images (Ren et al. 2015; Lin et al. 2017).

    vision-jax train faster_rcnn
    vision-jax train faster_rcnn --data voc:FOLDER --canvas 320 240 --augment.vflip 0.5
    vision-jax train faster_rcnn --data coco:FOLDER --backbone resnet50 --canvas 512 384

Everything is trained from random numbers, hence group normalization, whose statistics do not need a large
batch (Wu and He 2018; He, Girshick and Dollar 2019). Measured: experiments/detection/faster_rcnn_on_bccd.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.backbones import ResNetName, resnet
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers import FPN
from vision_jax.layers.norms import NormKind
from vision_jax.models.detection.two_stage import RPN, FasterRCNN, MLPHead
from vision_jax.pretrained import starting_from
from vision_jax.tasks import DetectionTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Filled, Five, Fraction, Positive, Seed, check_options


def experiment(
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    backbone: ResNetName = "resnet18",
    norm: NormKind = "group",
    fpn_features: Count = 128,
    head_features: Count = 512,
    roi: Literal["align", "pool"] = "align",
    class_agnostic: bool = False,
    anchor_sizes: Five[Positive] = (16, 32, 64, 128, 256),
    aspect_ratios: Filled[Positive] = (0.5, 1.0, 2.0),
    train_proposals: tuple[Count, Count] = (1000, 1000),
    test_proposals: tuple[Count, Count] = (1000, 300),
    rois_per_image: Count = 128,
    nms_threshold: Fraction = 0.5,
    max_detections: Count = 100,
    augment: Augment = Augment(),
    init: str | None = None,
    freeze: tuple[str, ...] = (),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=280,
        batch_size=4,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=50,
        eval_every=140,
    ),
) -> Experiment:
    """Trains one Faster R-CNN.

    Args:
        data: `synthetic`, `coco:FOLDER` or `voc:FOLDER`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        backbone: which ResNet.
        norm: of the backbone and the pyramid: `group`, `batch` (over all devices) or `frozen`.
        fpn_features: channels of the pyramid; the papers' 256 doubles the time of a step.
        head_features: hidden units of the box head; the papers' is 1024.
        roi: RoIAlign, or RoIPool as in the paper.
        class_agnostic: one box for all classes instead of one for each.
        anchor_sizes: side of a square anchor in canvas pixels, for each of the pyramid's five levels.
        aspect_ratios: height / width of anchors.
        train_proposals: anchors a level before NMS, and proposals an image after it.
        test_proposals: likewise when predicting.
        rois_per_image: proposals an image that the box head learns from.
        nms_threshold: IoU above which NMS drops the lower-scored of two detections of a class.
        max_detections: an image.
        augment: how training images are varied.
        init: what to start from: a file of torchvision's weights (then `--norm frozen`), or a run folder.
        freeze: frozen parts, such as `stem stage1` or `backbone`.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    return Experiment(
        model=lambda spec: FasterRCNN(
            backbone=resnet(backbone, norm),
            num_classes=len(spec.classes),
            neck=FPN(fpn_features, norm),
            rpn=RPN(anchor_sizes, aspect_ratios),
            roi=roi,
            class_agnostic=class_agnostic,
            train_proposals=train_proposals,
            test_proposals=test_proposals,
            rois_per_image=rois_per_image,
            head=MLPHead(head_features),
            nms_threshold=nms_threshold,
            max_detections=max_detections,
        ),
        task=DetectionTask(data, canvas, augment),
        stages=(Gradient(train, freeze=freeze),),
        seed=seed,
        init=starting_from(init),
    )
