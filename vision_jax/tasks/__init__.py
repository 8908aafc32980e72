"""One function a task: it joins data, evaluators and plots into what an experiment needs around a model."""

from vision_jax.tasks.addition import addition
from vision_jax.tasks.classification import classification
from vision_jax.tasks.colocalization import colocalization
from vision_jax.tasks.detection import detection
from vision_jax.tasks.instance import instances
from vision_jax.tasks.segmentation import segmentation

__all__ = ["addition", "classification", "colocalization", "detection", "instances", "segmentation"]
