"""Data sets that tensorflow-datasets prepared in the format array_record, read without TensorFlow.

    tfds:DIR      detection, segmentation, classification

Options: `train=NAME`, `val=NAME`, splits or parts of them in TFDS' words (`train[:80%]`); for segmentation
`classes=K`, how many classes there are, `void=I`, an index that is void besides 255, and `foreground=I`, the
index of the second of two classes besides 1.
"""

from functools import partial

from vision_jax.data.format import SPLIT_NAMES, Format, Opener
from vision_jax.data.formats.tfds.sources import (
    TfdsClassification,
    TfdsDetection,
    open_tfds,
    open_tfds_segmentation,
)

FORMATS = {
    "tfds": Format(
        {
            "detection": Opener(partial(open_tfds, source=TfdsDetection), SPLIT_NAMES),
            "classification": Opener(partial(open_tfds, source=TfdsClassification), SPLIT_NAMES),
            "segmentation": Opener(
                open_tfds_segmentation,
                {**SPLIT_NAMES, "classes": int, "void": int, "foreground": int},
            ),
        }
    )
}
