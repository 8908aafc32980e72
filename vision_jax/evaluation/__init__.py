"""Evaluation of predictions: COCO AP of boxes, masks and boundaries, VOC AP, accuracy, IoU.

Each evaluator takes batches with what was predicted for them (`add`) and gives one report (`report`). What
each image contributed is kept (`read_per_image`), and runs are compared by resampling it (`difference`).
"""

from vision_jax.evaluation.bootstrap import Difference, Interval, difference, interval
from vision_jax.evaluation.classification.accuracy import ClassificationEvaluator
from vision_jax.evaluation.detection.coco import CocoEvaluator
from vision_jax.evaluation.detection.coco_masks import CocoInstanceEvaluator
from vision_jax.evaluation.detection.confusion import detection_confusion
from vision_jax.evaluation.detection.recall import RecallEvaluator
from vision_jax.evaluation.detection.voc import VocEvaluator, voc_average_precision, voc_hits
from vision_jax.evaluation.per_image.file import PerImage, read_per_image
from vision_jax.evaluation.segmentation.boundary import BoundaryEvaluator, band_counts, boundary_f1
from vision_jax.evaluation.segmentation.scores import SegmentationEvaluator, segmentation_scores

__all__ = [
    "BoundaryEvaluator",
    "ClassificationEvaluator",
    "CocoEvaluator",
    "CocoInstanceEvaluator",
    "Difference",
    "Interval",
    "PerImage",
    "RecallEvaluator",
    "SegmentationEvaluator",
    "VocEvaluator",
    "band_counts",
    "boundary_f1",
    "detection_confusion",
    "difference",
    "interval",
    "read_per_image",
    "segmentation_scores",
    "voc_average_precision",
    "voc_hits",
]
