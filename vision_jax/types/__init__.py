"""The typed structs that flow between rooms."""

from vision_jax.types.classification import (
    Classification,
    ClassificationBatch,
    ClassificationExample,
    ClassificationRecord,
    ClassificationSource,
)
from vision_jax.types.detection import (
    DetectionBatch,
    DetectionExample,
    DetectionRecord,
    Detections,
    DetectionSource,
    ImageDetections,
    Proposals,
    to_original,
)
from vision_jax.types.errors import UserError
from vision_jax.types.files import FileKind, file_kind, is_system_name
from vision_jax.types.instance import (
    ImageInstances,
    InstanceBatch,
    InstanceExample,
    Instances,
    InstanceSource,
    instances_to_original,
)
from vision_jax.types.mean import AXIS, Mean
from vision_jax.types.report import Report
from vision_jax.types.segmentation import (
    Segmentation,
    SegmentationBatch,
    SegmentationExample,
    SegmentationSource,
)

__all__ = [
    "AXIS",
    "Classification",
    "ClassificationBatch",
    "ClassificationExample",
    "ClassificationRecord",
    "ClassificationSource",
    "DetectionBatch",
    "DetectionExample",
    "DetectionRecord",
    "DetectionSource",
    "Detections",
    "FileKind",
    "ImageDetections",
    "ImageInstances",
    "InstanceBatch",
    "InstanceExample",
    "InstanceSource",
    "Instances",
    "Mean",
    "Proposals",
    "Report",
    "Segmentation",
    "SegmentationBatch",
    "SegmentationExample",
    "SegmentationSource",
    "UserError",
    "file_kind",
    "instances_to_original",
    "is_system_name",
    "to_original",
]
