"""Mask R-CNN from scratch, on synthetic scenes or on a folder of images with masks (He et al. 2017).

    vision-jax train mask_rcnn
    vision-jax train mask_rcnn --data coco:FOLDER --backbone resnet50 --canvas 512 384
    vision-jax train mask_rcnn --neck c4 --backbone resnet50 --roi pool      # table 2c, d

What the paper's table 2 varies are the options here: `--roi`, `--neck` (a pyramid, or one map of stride 16 or
32), `--mask-head`, `--mask-loss`, `--class-agnostic-masks`. Measured:
experiments/instance/mask_rcnn_on_scenes.
"""

from __future__ import annotations

from typing import Literal

from vision_jax.backbones import ResNetName, resnet
from vision_jax.data.transforms.augment import Augment
from vision_jax.layers import FPN
from vision_jax.layers.norms import NormKind
from vision_jax.models.detection.two_stage import RPN, MLPHead, SingleLevel, residual_head
from vision_jax.models.instance import FCNMaskHead, MaskRCNN, MLPMaskHead
from vision_jax.pretrained import starting_from
from vision_jax.tasks import InstanceTask
from vision_jax.training.experiment import Experiment, Gradient, TrainConfig
from vision_jax.types import Count, Filled, Fraction, Positive, Seed, UserError, check_options


def experiment(
    data: str = "synthetic",
    canvas: tuple[Count, Count] | None = None,
    masks: Literal["crops", "full"] = "crops",
    backbone: ResNetName = "resnet18",
    norm: NormKind = "group",
    remat: bool = False,
    neck: Literal["fpn", "c4", "c5"] = "fpn",
    fpn_features: Count = 64,
    head_features: Count = 512,
    roi: Literal["align", "align_max", "pool"] = "align",
    mask_head: Literal["fcn", "mlp"] = "fcn",
    mask_features: Count = 64,
    mask_loss: Literal["sigmoid", "softmax"] = "sigmoid",
    class_agnostic_masks: bool = False,
    class_agnostic: bool = False,
    anchor_sizes: Filled[Positive] = (16, 32, 64, 128, 256),
    aspect_ratios: Filled[Positive] = (0.5, 1.0, 2.0),
    train_proposals: tuple[Count, Count] = (1000, 1000),
    test_proposals: tuple[Count, Count] = (1000, 300),
    rois_per_image: Count = 64,
    nms_threshold: Fraction = 0.5,
    max_detections: Count = 100,
    augment: Augment = Augment(),
    init: str | None = None,
    freeze: tuple[str, ...] = (),
    seed: Seed = 0,
    train: TrainConfig = TrainConfig(
        steps=540,
        batch_size=2,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=60,
    ),
) -> Experiment:
    """Trains one Mask R-CNN.

    Args:
        data: `synthetic`, `coco:FOLDER`, or `voc:FOLDER` with `SegmentationObject`.
        canvas: long and short side, in pixels, that images are resized into; from the data if None.
        masks: how batches hold masks: crops of objects' boxes, or bitmaps of the whole canvas.
        backbone: which ResNet.
        norm: of the backbone and the pyramid: `group`, `batch` (over all devices) or `frozen`.
        remat: whether the backward pass computes residual blocks again: less memory, more time.
        neck: a pyramid; or stage 4's map and stage 5 as the head (C4, stride 16); or stage 5's (stride 32).
        fpn_features: channels of the pyramid; the papers' is 256.
        head_features: hidden units of the box head, without C4; the papers' is 1024.
        roi: RoIAlign by the mean of its samples or their maximum, or RoIPool.
        mask_head: convolutions, or two fully connected layers (table 2e).
        mask_features: channels of the convolutions; the paper's is 256. Hidden units are four times as many.
        mask_loss: each class's mask by itself, or classes in competition (table 2b).
        class_agnostic_masks: one mask for all classes instead of one for each.
        class_agnostic: one box for all classes instead of one for each.
        anchor_sizes: side of a square anchor in canvas pixels, for each of the five levels; without a
            pyramid all of them at every location.
        aspect_ratios: height / width of anchors.
        train_proposals: anchors a level before NMS, and proposals an image after it.
        test_proposals: likewise when predicting.
        rois_per_image: proposals an image that the box head learns from; the mask head from positive ones.
        nms_threshold: IoU above which NMS drops the lower-scored of two detections of a class.
        max_detections: an image.
        augment: how training images are varied.
        init: what to start from: a file of torchvision's weights (then `--norm frozen`), or a run folder.
        freeze: frozen parts, such as `stem stage1` or `backbone`.
        seed: of the initial parameters, the order of the data and all random sampling.
        train: how long and how to train.
    """
    check_options(experiment, locals())
    pyramid, residual = neck == "fpn", neck == "c4"
    if pyramid and len(anchor_sizes) != 5:
        given = " ".join(f"{size:g}" for size in anchor_sizes)
        raise UserError(f"--anchor-sizes {given}: give 5 values, one for each level of the pyramid")
    return Experiment(
        model=lambda spec: MaskRCNN(
            backbone=resnet(backbone, norm, stages=3 if residual else 4, remat=remat),
            num_classes=len(spec.classes),
            neck=FPN(fpn_features, norm) if pyramid else SingleLevel(neck),
            rpn=RPN(anchor_sizes if pyramid else (anchor_sizes,), aspect_ratios),
            head=residual_head(backbone, norm) if residual else MLPHead(head_features),
            roi=roi,
            pooled_size=14 if residual else 7,
            class_agnostic=class_agnostic,
            mask_head=(
                FCNMaskHead(0 if residual else 4, mask_features)
                if mask_head == "fcn"
                else MLPMaskHead(4 * mask_features, 14 if residual else 28)
            ),
            mask_after_head=residual,
            mask_loss=mask_loss,
            class_agnostic_masks=class_agnostic_masks,
            train_proposals=train_proposals,
            test_proposals=test_proposals,
            rois_per_image=rois_per_image,
            nms_threshold=nms_threshold,
            max_detections=max_detections,
        ),
        task=InstanceTask(data, canvas, augment, masks),
        stages=(Gradient(train, freeze=freeze),),
        seed=seed,
        init=starting_from(init),
    )
