"""COCO's json files of boxes, masks and categories (Lin et al. 2014).

    coco:DIR or coco:FILE.json      detection, instances, segmentation

Options: `train=NAME`, `val=NAME`, `holdout=F` (`vision_jax.data.format`); `images=FOLDER`, the image folder,
relative to DIR.
"""

from vision_jax.data.format import SPLIT_OPTIONS, Format, Opener
from vision_jax.data.formats.coco.folder import open_coco, open_coco_segmentation

_OPTIONS = {**SPLIT_OPTIONS, "images": str}

FORMATS = {
    "coco": Format(
        {
            "detection": Opener(open_coco, _OPTIONS),
            "instances": Opener(open_coco, _OPTIONS),
            "segmentation": Opener(open_coco_segmentation, _OPTIONS),
        },
        file_suffix=".json",
    )
}
