"""The typed structs that flow between rooms."""

from vision_jax.types.classification import (
    Classification,
    ClassificationBatch,
    ClassificationSpec,
)
from vision_jax.types.detection import (
    DetectionBatch,
    Detections,
    DetectionSpec,
    ImageDetections,
    Proposals,
    to_original,
)
from vision_jax.types.errors import UserError
from vision_jax.types.files import HEAD, FileKind, content_kind, file_kind, is_system_name
from vision_jax.types.instance import (
    ImageInstances,
    InstanceBatch,
    Instances,
    instances_to_original,
)
from vision_jax.types.mean import AXIS, Mean
from vision_jax.types.options import (
    Count,
    Filled,
    Five,
    Fraction,
    FractionBelow1,
    Lengths,
    Limits,
    NotNegative,
    Positive,
    PositiveFraction,
    Rising,
    Seed,
    Whole,
    check_fields,
    check_options,
)
from vision_jax.types.packing import pack, unpack
from vision_jax.types.pictures import Picture, stack_pictures
from vision_jax.types.report import Report
from vision_jax.types.segmentation import (
    Segmentation,
    SegmentationBatch,
    SegmentationSpec,
)
from vision_jax.types.spec import DataSpec, JsonSpec, fingerprint_of

__all__ = [
    "AXIS",
    "HEAD",
    "Classification",
    "ClassificationBatch",
    "ClassificationSpec",
    "Count",
    "DataSpec",
    "DetectionBatch",
    "DetectionSpec",
    "Detections",
    "FileKind",
    "Filled",
    "Five",
    "Fraction",
    "FractionBelow1",
    "ImageDetections",
    "ImageInstances",
    "InstanceBatch",
    "Instances",
    "JsonSpec",
    "Lengths",
    "Limits",
    "Mean",
    "NotNegative",
    "Picture",
    "Positive",
    "PositiveFraction",
    "Proposals",
    "Report",
    "Rising",
    "Seed",
    "Segmentation",
    "SegmentationBatch",
    "SegmentationSpec",
    "UserError",
    "Whole",
    "check_fields",
    "check_options",
    "content_kind",
    "file_kind",
    "fingerprint_of",
    "instances_to_original",
    "is_system_name",
    "pack",
    "stack_pictures",
    "to_original",
    "unpack",
]
