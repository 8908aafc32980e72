"""Pictures of batches, predictions, data sets and training curves; uint8 RGB arrays, drawn off screen."""

from vision_jax.visualization.canvas import save_png
from vision_jax.visualization.classification import draw_classification_batch, draw_classifications
from vision_jax.visualization.curves import draw_curves
from vision_jax.visualization.detection.boxes import draw_boxes
from vision_jax.visualization.detection.masks import draw_instance_batch, draw_instances
from vision_jax.visualization.detection.pictures import draw_detection_batch, draw_detections
from vision_jax.visualization.segmentation import (
    draw_labels,
    draw_segmentation_batch,
    draw_segmentations,
)
from vision_jax.visualization.spatial_transformers import draw_sampling_grid, draw_warps, save_gif
from vision_jax.visualization.summary import (
    draw_box_sizes,
    draw_class_counts,
    draw_image_sizes,
    side_by_side,
    stack_pictures,
)

__all__ = [
    "draw_box_sizes",
    "draw_boxes",
    "draw_class_counts",
    "draw_classification_batch",
    "draw_classifications",
    "draw_curves",
    "draw_detection_batch",
    "draw_detections",
    "draw_image_sizes",
    "draw_instance_batch",
    "draw_instances",
    "draw_labels",
    "draw_sampling_grid",
    "draw_segmentation_batch",
    "draw_segmentations",
    "draw_warps",
    "save_gif",
    "save_png",
    "side_by_side",
    "stack_pictures",
]
