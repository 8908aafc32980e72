"""Region-based detectors: proposals first, then a class and a box for each."""

from vision_jax.models.detection.two_stage.faster_rcnn import FasterRCNN, TrainedRegions
from vision_jax.models.detection.two_stage.heads import MLPHead, ResidualHead, SingleLevel, residual_head
from vision_jax.models.detection.two_stage.regions import RegionScores, SampledRegions
from vision_jax.models.detection.two_stage.rpn import RPN, ScoredAnchors

__all__ = [
    "RPN",
    "FasterRCNN",
    "MLPHead",
    "RegionScores",
    "ResidualHead",
    "SampledRegions",
    "ScoredAnchors",
    "SingleLevel",
    "TrainedRegions",
    "residual_head",
]
