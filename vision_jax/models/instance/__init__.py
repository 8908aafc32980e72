"""Instance segmentation."""

from vision_jax.models.instance.mask_rcnn import FCNMaskHead, MaskRCNN, MLPMaskHead

__all__ = ["FCNMaskHead", "MLPMaskHead", "MaskRCNN"]
