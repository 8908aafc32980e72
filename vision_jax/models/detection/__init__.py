"""Object detectors."""

from vision_jax.models.detection.faster_rcnn import FasterRCNN
from vision_jax.models.detection.heads import MLPHead, ResidualHead, SingleLevel, residual_head
from vision_jax.models.detection.rpn import RPN

__all__ = ["RPN", "FasterRCNN", "MLPHead", "ResidualHead", "SingleLevel", "residual_head"]
