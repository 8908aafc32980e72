"""One class a task: it joins data, evaluators and plots into what an experiment needs around a model."""

from vision_jax.tasks.addition import AdditionTask
from vision_jax.tasks.classification import ClassificationTask
from vision_jax.tasks.colocalization import ColocalizationTask
from vision_jax.tasks.detection import DetectionTask
from vision_jax.tasks.instance import InstanceTask
from vision_jax.tasks.segmentation import SegmentationTask

__all__ = [
    "AdditionTask",
    "ClassificationTask",
    "ColocalizationTask",
    "DetectionTask",
    "InstanceTask",
    "SegmentationTask",
]
