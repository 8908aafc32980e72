"""An image with 300 objects, from a file to a trained detector: none of them is left out on the way."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from vision_jax.backbones.resnet import ResNet
from vision_jax.models.detection.two_stage import RPN, MLPHead, SingleLevel
from vision_jax.models.instance import FCNMaskHead, MaskRCNN
from vision_jax.tasks import InstanceTask
from vision_jax.training.state import initial_variables

COUNT, COLUMNS, CELL = 300, 20, 8  # 300 bright squares of 6x6 pixels, 8 apart, in 160x120


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A COCO folder with one crowded image, and another with two objects, to train and evaluate on."""
    folder = tmp_path_factory.mktemp("crowd")
    pixels = np.zeros((120, 160, 3), np.uint8)
    annotations = []
    for n in range(COUNT):
        x, y = n % COLUMNS * CELL + 1, n // COLUMNS * CELL + 1
        pixels[y : y + 6, x : x + 6] = 255
        annotations.append(_annotation(n, 1, x, y))
    few = np.zeros_like(pixels)
    few[20:26, 40:46] = few[60:66, 40:46] = 255
    annotations += [_annotation(COUNT, 2, 40, 20), _annotation(COUNT + 1, 2, 40, 60)]
    records = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 160, "height": 120} for i in (1, 2)],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": annotations,
    }
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        (folder / f"{split}2017").mkdir()
        for i, picture in ((1, pixels), (2, few)):
            Image.fromarray(picture).save(folder / f"{split}2017" / f"{i}.png")
        (folder / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(records))
    return f"coco:{folder}"


def _annotation(n, image, x, y):
    corners = [x, y, x + 6, y, x + 6, y + 6, x, y + 6]
    return {
        "id": n + 1,
        "image_id": image,
        "category_id": 1,
        "bbox": [x, y, 6, 6],
        "area": 36,
        "iscrowd": 0,
        "segmentation": [corners],
    }


@pytest.mark.parametrize("masks", ["crops", "full"])
def test_a_batch_holds_every_object_with_its_mask(crowd, masks):
    (batch,) = InstanceTask(crowd, (160, 120), masks=masks).open(None).once("val", 2)
    assert sorted(batch.valid.sum(1)) == [2, COUNT]
    crowded = int(np.argmax(batch.valid.sum(1)))
    assert len(np.unique(batch.boxes[crowded], axis=0)) == COUNT
    assert (batch.masks[crowded] > 127).any((1, 2)).all()


@pytest.mark.slow
def test_a_detector_with_room_for_them_learns_from_300_masks_at_once(crowd):
    (batch,) = InstanceTask(crowd, (160, 120)).open(None).once("val", 2)
    model = crowd_detector()
    variables = initial_variables(model, jax.random.key(0), batch)
    rngs = {"sample": jax.random.key(1)}

    def objective(params):
        terms = model.apply({**variables, "params": params}, batch, method="loss", rngs=rngs)
        return sum(term.value() for term in terms.values()), terms

    gradient, terms = jax.jit(jax.grad(objective, has_aux=True))(variables["params"])
    others = float(terms["mask"].weight) - COUNT
    assert 2 <= others <= COUNT  # the other image's two objects and the proposals that cover them
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["mask_head"]))


def crowd_detector():
    return MaskRCNN(
        ResNet((1, 1, 1), bottleneck=False, norm="group", width=8),
        num_classes=1,
        neck=SingleLevel("c4"),
        rpn=RPN(sizes=((8, 16, 32),), anchors_per_image=32),
        head=MLPHead(32),
        mask_head=FCNMaskHead(1, 16),
        train_proposals=(400, 200),
        test_proposals=(400, 320),
        rois_per_image=4 * COUNT,
        max_detections=COUNT,
        mask_chunk=32,
    )
