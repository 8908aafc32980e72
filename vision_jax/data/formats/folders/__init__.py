"""Plain folders: of images by class, and of images beside their label maps.

    folder:DIR      classification
    labels:DIR      segmentation

Options: `train=NAME`, `val=NAME`, `holdout=F` (`vision_jax.data.format`); of `labels`, `classes=K`, how many
classes there are, `void=I`, an index that is void besides 255, and `foreground=I`, the index of the second of
two classes besides 1: 255 in masks of 0 and 255.
"""

from vision_jax.data.format import SPLIT_OPTIONS, Format, Opener
from vision_jax.data.formats.folders.images import open_image_folder
from vision_jax.data.formats.folders.labels import open_label_folder

FORMATS = {
    "folder": Format({"classification": Opener(open_image_folder, SPLIT_OPTIONS)}),
    "labels": Format(
        {
            "segmentation": Opener(
                open_label_folder, {**SPLIT_OPTIONS, "classes": int, "void": int, "foreground": int}
            )
        }
    ),
}
