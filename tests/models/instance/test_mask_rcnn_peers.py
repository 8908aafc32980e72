"""torchvision's weights in our Mask R-CNN: the same losses from full bitmaps, the same masks."""

import jax
import numpy as np
import pytest

from tests.batches import detection_of, instances_of
from vision_jax.backbones import resnet
from vision_jax.benchmarks.torchvision_weights import detector_variables
from vision_jax.models.detection.two_stage import RPN
from vision_jax.models.instance import MaskRCNN
from vision_jax.ops.masks import paste_probabilities

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

pytestmark = pytest.mark.peers

CLASSES, CANVAS = 3, (96, 128)
SIZES = (8, 16, 32, 64, 128)


@pytest.fixture(scope="module")
def pair():
    from torchvision.models.detection import MaskRCNN as TorchMaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    torch.manual_seed(0)
    body = torchvision.models.resnet18(weights=None, norm_layer=lambda c: torch.nn.GroupNorm(32, c))
    theirs = TorchMaskRCNN(
        _resnet_fpn_extractor(body, 5),
        CLASSES + 1,
        min_size=CANVAS[0],
        max_size=CANVAS[1],
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in SIZES), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=100,
        rpn_batch_size_per_image=100_000,
        box_batch_size_per_image=100_000,
    )
    with torch.no_grad():
        theirs.rpn.head.cls_logits.weight *= 20
        theirs.rpn.head.bbox_pred.weight *= 10
        theirs.roi_heads.box_predictor.cls_score.weight *= 20
        theirs.roi_heads.box_predictor.bbox_pred.weight *= 5
    theirs.roi_heads.fg_bg_sampler.positive_fraction = 1.0
    ours = MaskRCNN(
        resnet("resnet18", "group"),
        CLASSES,
        rpn=RPN(sizes=SIZES, anchors_per_image=8000),
        train_proposals=(300, 200),
        test_proposals=(300, 100),
        rois_per_image=250,
        positive_fraction=1.0,
    )
    return theirs, ours, detector_variables(theirs)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[0, :3] = [[8, 10, 50, 60], [60, 20, 90, 88], [30, 30, 70, 70]]
    boxes[1, :2] = [[5, 5, 25, 30], [64, 40, 120, 90]]
    labels = np.array([[0, 1, 2], [2, 0, -1]], np.int32)
    masks = np.zeros((2, 3, *CANVAS), np.uint8)
    for b in range(2):
        for n in np.flatnonzero(labels[b] >= 0):
            x1, y1, x2, y2 = boxes[b, n].astype(int)
            masks[b, n, y1:y2, x1:x2] = 255 * (rng.random((y2 - y1, x2 - x1)) < 0.6)
    image = rng.integers(0, 255, (2, *CANVAS, 3)).astype(np.uint8)
    frames = np.tile([0, 0, CANVAS[1], CANVAS[0]], (2, 3, 1))
    return instances_of(detection_of(image, boxes, labels), masks, frames)


def as_torch(batch):
    images = [torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255) for image in batch.image]
    targets = [
        {
            "boxes": torch.from_numpy(boxes[valid]),
            "labels": torch.from_numpy(labels[valid]).long() + 1,
            "masks": torch.from_numpy(masks[valid] // 255),
        }
        for boxes, labels, masks, valid in zip(
            batch.boxes, batch.labels, batch.masks, batch.valid, strict=True
        )
    ]
    return images, targets


def test_losses_from_full_bitmaps(pair, batch):
    theirs, ours, variables = pair
    theirs.train()
    expected = theirs(*as_torch(batch))
    terms = jax.jit(lambda v, b: ours.apply(v, b, method="loss", rngs={"sample": jax.random.key(0)}))(
        variables, batch
    )
    for mine, their in {
        "mask": "loss_mask",
        "roi_box": "loss_box_reg",
        "roi_class": "loss_classifier",
    }.items():
        np.testing.assert_allclose(terms[mine].value(), expected[their].item(), rtol=1e-4, err_msg=mine)


def test_pasted_masks_equal_torchvision(pair, batch):
    theirs, ours, variables = pair
    theirs.eval()
    with torch.no_grad():
        expected = theirs(as_torch(batch)[0])
    found = jax.device_get(jax.jit(lambda v, b: ours.apply(v, b, method="predict"))(variables, batch))
    for b in range(2):
        kept = found.valid[b]
        assert kept.sum() == len(expected[b]["masks"]) > 10
        np.testing.assert_allclose(found.boxes[b][kept], expected[b]["boxes"].numpy(), atol=2e-2)
        for mask, box, their in zip(
            found.masks[b][kept],
            expected[b]["boxes"].numpy(),
            expected[b]["masks"][:, 0].numpy(),
            strict=True,
        ):
            np.testing.assert_allclose(paste_probabilities(mask, box, CANVAS), their, atol=1e-3)
