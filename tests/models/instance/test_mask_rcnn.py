"""Mask R-CNN: losses and masks by definition, its variants, and overfitting two images."""

from functools import partial

import chex
import jax
import numpy as np
import pytest

from tests.batches import detection_of, instances_of
from tests.models.overfitting import best_of_class, overfit, warmed_up
from vision_jax.backbones.resnet import ResNet
from vision_jax.layers import FPN
from vision_jax.models.detection.two_stage import RPN, MLPHead, ResidualHead, SingleLevel
from vision_jax.models.instance import FCNMaskHead, MaskRCNN, MLPMaskHead
from vision_jax.training.state import initial_variables
from vision_jax.types import InstanceBatch

FPN_PARTS = {
    "backbone": ResNet((1, 1, 1, 1), bottleneck=False, norm="group", width=8),
    "neck": FPN(16, "group"),
    "rpn": RPN(sizes=(8, 16, 32, 64, 128), anchors_per_image=32),
    "head": MLPHead(32),
    "mask_head": FCNMaskHead(1, 16),
}
ONE_MAP_PARTS = {
    "backbone": ResNet((1, 1), bottleneck=False, norm="group", width=8),
    "neck": SingleLevel("c3"),
    "rpn": RPN(sizes=((24,),), anchors_per_image=32),
    "head": MLPHead(64),
    "mask_head": FCNMaskHead(1, 16),
}
C4_PARTS = {
    "backbone": ResNet((1, 1, 1), bottleneck=False, norm="group", width=8),
    "neck": SingleLevel("c4"),
    "rpn": RPN(sizes=((16, 32, 64),), anchors_per_image=32),
    "head": ResidualHead(1, 32, bottleneck=False, norm="batch"),
    "pooled_size": 14,
    "mask_head": FCNMaskHead(0, 16),
    "mask_after_head": True,
}


def detector(parts=FPN_PARTS, **changes) -> MaskRCNN:
    settings = {
        "num_classes": 2,
        "train_proposals": (100, 50),
        "test_proposals": (100, 20),
        "rois_per_image": 16,
        "max_detections": 10,
        "mask_chunk": 3,
    }
    return MaskRCNN(**{**settings, **parts, **changes})


def shape(n: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Whether coordinates in a box, from 0 to 1, lie inside an object, an L or a triangle."""
    return (u < 0.35) | (v > 0.65) if n == 0 else u < v


def scenes(count: int, full: bool = False, cells: int = 64) -> InstanceBatch:
    """A bright L (class 0) left of a dark triangle (class 1) on gray, 64x64; a third object is padding.

    Masks are full bitmaps, or crops of `cells` a side.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    images = np.full((count, 64, 64, 3), 128, np.uint8)
    boxes = np.zeros((count, 3, 4), np.float32)
    masks = np.zeros((count, 3, 64, 64), bool)
    for b in range(count):
        for n in range(2):
            side = int(rng.integers(22, 31))
            left, top = int(rng.integers(0, 33 - side)) + 32 * n, int(rng.integers(0, 65 - side))
            boxes[b, n] = left, top, left + side, top + side
            u, v = (x - left + 0.5) / side, (y - top + 0.5) / side
            inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
            masks[b, n] = inside & shape(n, u, v)
            images[b][masks[b, n]] = 255 if n == 0 else 0
    labels = np.tile(np.array([0, 1, -1], np.int32), (count, 1))
    frames = np.tile(np.array([0, 0, 64, 64], np.float32), (count, 3, 1))
    pictures = masks
    if not full:
        frames = boxes.copy()
        pictures = np.zeros((count, 3, cells, cells), bool)
        for b in range(count):
            for n in range(2):
                x1, y1, x2, y2 = boxes[b, n].astype(int)
                cut, centers = masks[b, n, y1:y2, x1:x2], (np.arange(cells) + 0.5) / cells
                rows, columns = (centers * (y2 - y1)).astype(int), (centers * (x2 - x1)).astype(int)
                pictures[b, n] = cut[rows[:, None], columns]
    batch = detection_of(images, boxes, labels, id=np.arange(10, 10 + count, dtype=np.int32))
    return instances_of(batch, pictures.astype(np.uint8) * 255, frames)


def begin(model, batch):
    return initial_variables(model, jax.random.key(0), batch)


@partial(jax.jit, static_argnums=0)
def losses(model, variables, batch):
    return model.apply(variables, batch, method="loss", rngs={"sample": jax.random.key(2)})


@pytest.fixture(scope="module")
def fresh():
    """On one map, which compiles sooner; a pyramid's losses equal torchvision's in the parity tests."""
    model, batch = detector(ONE_MAP_PARTS), scenes(2)
    return model, batch, begin(model, batch)


def test_a_fresh_mask_is_a_coin_and_positives_weigh_alike(fresh):
    model, batch, variables = fresh
    terms = losses(model, variables, batch)
    assert set(terms) == {"rpn_objectness", "rpn_box", "roi_class", "roi_box", "mask"}
    assert 2 * 2 <= float(terms["mask"].weight) <= 2 * 4  # the truths are proposals; a quarter of 16 at most
    assert abs(float(terms["mask"].value()) - np.log(2)) < 0.1


def test_objects_without_a_mask_and_examples_that_are_not_there_do_not_count(fresh):
    model, batch, variables = fresh
    masks = np.where(np.arange(3)[None, :, None, None] == 0, 0, batch.masks).astype(np.uint8)
    some = losses(model, variables, batch.replace(masks=masks))
    every = losses(model, variables, batch)
    assert 0 < float(some["mask"].weight) < float(every["mask"].weight)
    chex.assert_trees_all_close({**some, "mask": 0}, {**every, "mask": 0}, rtol=1e-6)
    none = losses(model, variables, batch.replace(masks=np.zeros_like(batch.masks)))
    assert float(none["mask"].weight) == float(none["mask"].total) == 0
    half = losses(model, variables, batch.replace(example_valid=np.array([True, False])))
    assert float(half["mask"].weight) <= 4


@pytest.mark.parametrize(("cells", "chunk"), [(64, 3), pytest.param(28, 8, marks=pytest.mark.slow)])
def test_full_bitmaps_teach_what_crops_teach_and_chunks_may_have_any_size(fresh, cells, chunk):
    model, _, variables = fresh
    params = jax.tree.map(lambda x: x, variables["params"])
    # A fresh mask head says one half everywhere, whatever the truth; this one does not.
    params["mask_head"]["masks"]["kernel"] *= 1000
    crops = losses(model, {"params": params}, scenes(2, cells=cells))
    full = losses(detector(ONE_MAP_PARTS, mask_chunk=chunk), {"params": params}, scenes(2, full=True))
    assert abs(float(crops["mask"].value()) - np.log(2)) > 0.05
    np.testing.assert_allclose(full["mask"].value(), crops["mask"].value(), rtol=0.05)
    chex.assert_trees_all_close({**full, "mask": 0}, {**crops, "mask": 0}, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "changes", "size", "channels"),
    [
        (FPN_PARTS, {"mask_loss": "softmax", "roi": "align_max"}, 28, 3),
        (
            ONE_MAP_PARTS,
            {"mask_head": MLPMaskHead(32, 12), "class_agnostic_masks": True, "roi": "pool"},
            12,
            1,
        ),
        (C4_PARTS, {"mask_loss": "softmax", "class_agnostic_masks": True}, 14, 2),
    ],
)
def test_variants_have_their_channels_and_gradients_everywhere(parts, changes, size, channels):
    model, batch = detector(parts, **changes), scenes(2)
    variables = begin(model, batch)

    @jax.jit
    def run(params):
        def total(params):
            terms, _ = model.apply(
                {**variables, "params": params},
                batch,
                method="loss",
                rngs={"sample": jax.random.key(2)},
                mutable=["batch_stats"],
            )
            return sum(term.value() for term in terms.values())

        variables_now = {**variables, "params": params}
        raw = model.apply(variables_now, batch) if parts is C4_PARTS else None
        return jax.grad(total)(params), raw, model.apply(variables_now, batch, method="predict")

    gradient, raw, found = run(variables["params"])
    cells = size**2 if isinstance(model.mask_head, MLPMaskHead) else 1
    assert gradient["mask_head"]["masks"]["bias"].shape == (channels * cells,)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    assert found.masks.shape == (2, 10, size, size)
    valid = np.asarray(found.valid)
    assert valid.any()
    assert (np.asarray(found.masks)[~valid] == 0).all()
    if raw is not None:  # one mask for all classes, in competition with the background
        assert raw["mask/logits"].shape == (2, 10, size, size, 2)
        own, background = np.moveaxis(np.asarray(raw["mask/logits"]), -1, 0)
        expected = 1 / (1 + np.exp(background - own))
        np.testing.assert_allclose(np.asarray(found.masks)[valid], expected[valid], atol=1e-4)


@pytest.mark.slow
def test_it_overfits_two_images(fresh):
    _, batch, variables = fresh
    model = detector(ONE_MAP_PARTS, rois_per_image=24, mask_chunk=12)
    variables, losses = overfit(model, batch, warmed_up(1e-2, 90), 90, variables)
    assert losses[-10:].mean() / losses[:10].mean() < 0.35
    found = jax.jit(partial(model.apply, method="predict"))(variables, batch)
    v, u = (np.mgrid[:28, :28] + 0.5) / 28
    for b in range(2):
        for n in range(2):
            best = best_of_class(found, b, n)
            assert found.scores[b, best] > 0.7
            own, expected = np.asarray(found.masks[b, best]) > 0.5, shape(n, u, v)
            assert (own & expected).sum() / (own | expected).sum() > 0.7  # of a full box: 0.58 and 0.5
