"""All cases, by the names that `--only` takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vision_jax.benchmarks.case import Case, Settings
from vision_jax.benchmarks.detectors import Detector
from vision_jax.benchmarks.input_pipeline import InputPipeline
from vision_jax.benchmarks.networks import Classifier
from vision_jax.benchmarks.operations import NMS, BilinearSampling, BoxIoU, RoIAlign
from vision_jax.benchmarks.segmenters import MaxUnpooling, SegmentingNetwork, TransposedConvolution

CASES: dict[str, Callable[[Settings], Case]] = {
    "roi_align_forward": partial(RoIAlign, gradient=False),
    "roi_align_gradient": partial(RoIAlign, gradient=True),
    "nms_spread": partial(NMS, arrangement="spread"),
    "nms_dense": partial(NMS, arrangement="dense"),
    "nms_chain": partial(NMS, arrangement="chain"),
    "box_iou": BoxIoU,
    "sampling_forward": partial(BilinearSampling, gradient=False),
    "sampling_gradient": partial(BilinearSampling, gradient=True),
    **{
        f"{name}_{what}": partial(Classifier, name=name, train=what == "step")
        for name in ("resnet50", "vgg16", "mobilenet_v2", "inception_v3")
        for what in ("forward", "step")
    },
    "unpooling_forward": partial(MaxUnpooling, gradient=False),
    "unpooling_gradient": partial(MaxUnpooling, gradient=True),
    "transposed_forward": partial(TransposedConvolution, gradient=False),
    "transposed_gradient": partial(TransposedConvolution, gradient=True),
    "segnet_basic_forward": partial(SegmentingNetwork, name="segnet_basic", train=False),
    "segnet_basic_step": partial(SegmentingNetwork, name="segnet_basic", train=True),
    "fcn_resnet50_forward": partial(SegmentingNetwork, name="fcn_resnet50", train=False),
    "fcn_resnet50_step": partial(SegmentingNetwork, name="fcn_resnet50", train=True),
    "faster_rcnn_predict": partial(Detector, masks=False, train=False),
    "faster_rcnn_step": partial(Detector, masks=False, train=True),
    "mask_rcnn_predict": partial(Detector, masks=True, train=False),
    "mask_rcnn_step": partial(Detector, masks=True, train=True),
    "input_pipeline": InputPipeline,
}
