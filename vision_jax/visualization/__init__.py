"""Pictures of batches, predictions, data sets and training curves; uint8 RGB arrays, plotted off screen."""

from vision_jax.visualization.canvas import save_png, side_by_side
from vision_jax.visualization.classification import plot_classification_batch, plot_classifications
from vision_jax.visualization.curves import plot_curves
from vision_jax.visualization.detection.boxes import plot_boxes
from vision_jax.visualization.detection.masks import plot_instance_batch, plot_instances
from vision_jax.visualization.detection.pictures import plot_detection_batch, plot_detections
from vision_jax.visualization.segmentation import (
    plot_labels,
    plot_segmentation_batch,
    plot_segmentations,
)
from vision_jax.visualization.spatial_transformers import plot_sampling_grid, plot_warps, save_gif
from vision_jax.visualization.summary import (
    plot_box_sizes,
    plot_class_counts,
    plot_image_sizes,
)

__all__ = [
    "plot_box_sizes",
    "plot_boxes",
    "plot_class_counts",
    "plot_classification_batch",
    "plot_classifications",
    "plot_curves",
    "plot_detection_batch",
    "plot_detections",
    "plot_image_sizes",
    "plot_instance_batch",
    "plot_instances",
    "plot_labels",
    "plot_sampling_grid",
    "plot_segmentation_batch",
    "plot_segmentations",
    "plot_warps",
    "save_gif",
    "save_png",
    "side_by_side",
]
