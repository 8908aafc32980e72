"""Scenes and digits that need no files.

    synthetic      detection, instances, segmentation, classification
    digits         classification

Options of `synthetic`: `length=N`, `val_length=N`, scenes to train and to evaluate on; `seed=S`, which
scenes; `canvas=PIXELS`, the side of their square; `objects=N`, the most objects in one. For classification
there is one object, a quarter to three quarters of the side long, and no option `objects`.
"""

from vision_jax.data.format import Format, Opener
from vision_jax.data.formats.synthetic.digits import open_digits
from vision_jax.data.formats.synthetic.splits import open_scene_classes, open_scene_maps, open_scenes

_SCENES = {"length": int, "val_length": int, "seed": int, "canvas": int}
_OBJECTS = {**_SCENES, "objects": int}

FORMATS = {
    "synthetic": Format(
        {
            "detection": Opener(open_scenes, _OBJECTS),
            "instances": Opener(open_scenes, _OBJECTS),
            "segmentation": Opener(open_scene_maps, _OBJECTS),
            "classification": Opener(open_scene_classes, _SCENES),
        },
        has_location=False,
    ),
    "digits": Format({"classification": Opener(open_digits)}, has_location=False),
}
