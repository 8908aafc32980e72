"""Pure functions on one image's arrays of any dtype: no Flax, no parameters, no state; all jit and vmap."""

from vision_jax.ops.anchors import base_anchors, grid_anchors, pyramid_anchors
from vision_jax.ops.boxes import box_area, box_giou, box_ioa, box_iou, clip_boxes, decode_boxes, encode_boxes
from vision_jax.ops.chunks import map_used
from vision_jax.ops.convolution import (
    averaged_transposed_convolution,
    bilinear_kernel,
    convolution_matrix_1d,
    convolution_matrix_2d,
    overlap_counts,
    resize_convolution,
    transposed_convolution,
)
from vision_jax.ops.losses import dice_loss, sigmoid_focal_loss, smooth_l1
from vision_jax.ops.mask_crops import crop_masks
from vision_jax.ops.matching import BACKGROUND, BETWEEN, match, sample_balanced
from vision_jax.ops.nms import batched_nms, nms
from vision_jax.ops.pooling import (
    max_pool_with_argmax,
    max_unpool,
    unpool_bed_of_nails,
    unpool_nearest,
)
from vision_jax.ops.roi import multilevel_roi_align, multilevel_roi_pool, roi_align, roi_pool
from vision_jax.ops.sampling import (
    affine_grid,
    attention_grid,
    projective_grid,
    regular_points,
    rotation_grid,
    sample_bilinear,
    target_points,
    thin_plate_spline_grid,
)

__all__ = [
    "BACKGROUND",
    "BETWEEN",
    "affine_grid",
    "attention_grid",
    "averaged_transposed_convolution",
    "base_anchors",
    "batched_nms",
    "bilinear_kernel",
    "box_area",
    "box_giou",
    "box_ioa",
    "box_iou",
    "clip_boxes",
    "convolution_matrix_1d",
    "convolution_matrix_2d",
    "crop_masks",
    "decode_boxes",
    "dice_loss",
    "encode_boxes",
    "grid_anchors",
    "map_used",
    "match",
    "max_pool_with_argmax",
    "max_unpool",
    "multilevel_roi_align",
    "multilevel_roi_pool",
    "nms",
    "overlap_counts",
    "projective_grid",
    "pyramid_anchors",
    "regular_points",
    "resize_convolution",
    "roi_align",
    "roi_pool",
    "rotation_grid",
    "sample_balanced",
    "sample_bilinear",
    "sigmoid_focal_loss",
    "smooth_l1",
    "target_points",
    "thin_plate_spline_grid",
    "transposed_convolution",
    "unpool_bed_of_nails",
    "unpool_nearest",
]
