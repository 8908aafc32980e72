"""The PASCAL VOC layout: XML boxes, object masks and label maps by lists of names (Everingham et al. 2010).

    voc:DIR      detection, instances, segmentation

Options: `train=NAME`, `val=NAME`, `holdout=F` (`vision_jax.data.format`), names of lists in ImageSets/Main,
for instances and segmentation in ImageSets/Segmentation; for segmentation `foreground=I`, the index of the
second of two classes besides 1: 255 in masks of 0 and 255.
"""

from vision_jax.data.format import SPLIT_OPTIONS, Format, Opener
from vision_jax.data.formats.voc.detection import open_voc
from vision_jax.data.formats.voc.instances import open_voc_instances
from vision_jax.data.formats.voc.segmentation import open_voc_segmentation

FORMATS = {
    "voc": Format(
        {
            "detection": Opener(open_voc, SPLIT_OPTIONS),
            "instances": Opener(open_voc_instances, SPLIT_OPTIONS),
            "segmentation": Opener(open_voc_segmentation, {**SPLIT_OPTIONS, "foreground": int}),
        }
    )
}
