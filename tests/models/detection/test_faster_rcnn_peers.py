"""torchvision's weights in our modules: the same features, proposals, losses and detections."""

import jax
import numpy as np
import pytest

from tests.batches import detection_of
from vision_jax.backbones import resnet
from vision_jax.benchmarks.torchvision_weights import backbone_variables, detector_variables
from vision_jax.models.detection.two_stage import RPN, FasterRCNN

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

pytestmark = pytest.mark.peers

CLASSES, CANVAS = 3, (96, 128)
SIZES = (8, 16, 32, 64, 128)
ALL = 100_000  # samples and proposals: so many that all are taken, and no sample differs


@pytest.fixture(scope="module")
def pair():
    """torchvision's detector and ours with its weights, scaled so that scores and boxes spread."""
    from torchvision.models.detection import FasterRCNN as TorchFasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    torch.manual_seed(0)
    body = torchvision.models.resnet18(weights=None, norm_layer=lambda c: torch.nn.GroupNorm(32, c))
    theirs = TorchFasterRCNN(
        _resnet_fpn_extractor(body, 5),
        CLASSES + 1,
        min_size=CANVAS[0],
        max_size=CANVAS[1],
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in SIZES), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=100,
        rpn_batch_size_per_image=ALL,
        box_batch_size_per_image=ALL,
        box_score_thresh=0.05,
    )
    with torch.no_grad():
        theirs.rpn.head.cls_logits.weight *= 20
        theirs.rpn.head.bbox_pred.weight *= 10
        theirs.roi_heads.box_predictor.cls_score.weight *= 20
        theirs.roi_heads.box_predictor.bbox_pred.weight *= 5
    ours = FasterRCNN(
        resnet("resnet18", "group"),
        CLASSES,
        rpn=RPN(sizes=SIZES, anchors_per_image=8000),
        train_proposals=(300, 200),
        test_proposals=(300, 100),
        rois_per_image=250,
        positive_fraction=1.0,
    )
    theirs.roi_heads.fg_bg_sampler.positive_fraction = 1.0
    return theirs, ours, detector_variables(theirs)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    boxes = np.zeros((2, 4, 4), np.float32)
    boxes[0, :3] = [[8, 10, 50, 60], [60, 20, 90, 88], [30, 30, 70, 70]]
    boxes[1, :2] = [[5, 5, 25, 30], [64, 40, 120, 90]]
    labels = np.array([[0, 1, 2, -1], [2, 0, -1, -1]], np.int32)
    return detection_of(rng.integers(0, 255, (2, *CANVAS, 3)).astype(np.uint8), boxes, labels)


def as_torch(batch):
    images = [torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255) for image in batch.image]
    targets = [
        {"boxes": torch.from_numpy(boxes[valid]), "labels": torch.from_numpy(labels[valid]).long() + 1}
        for boxes, labels, valid in zip(batch.boxes, batch.labels, batch.valid, strict=True)
    ]
    return images, targets


def test_features_proposals_and_detections(pair, batch):
    theirs, ours, variables = pair
    theirs.eval()
    with torch.no_grad():
        images, _ = theirs.transform(as_torch(batch)[0])
        maps = theirs.backbone(images.tensors)
        proposals, _ = theirs.rpn(images, maps)
        expected = theirs(as_torch(batch)[0])
    outputs = jax.jit(ours.apply)(variables, batch)
    for level, features in zip(("p2", "p3", "p4", "p5", "p6"), maps.values(), strict=True):
        reference = features.permute(0, 2, 3, 1).numpy()
        error = np.abs(outputs[level] - reference).max() / np.abs(reference).max()
        assert error < 1e-4, level
    for b in range(2):
        kept = np.asarray(outputs["proposals/valid"][b])
        assert kept.sum() == len(proposals[b])
        np.testing.assert_allclose(outputs["proposals/boxes"][b][kept], proposals[b].numpy(), atol=2e-2)
    found = jax.jit(lambda v, b: ours.apply(v, b, method="predict"))(variables, batch)
    for b in range(2):
        kept = np.asarray(found.valid[b])
        assert kept.sum() == len(expected[b]["scores"]) > 10
        np.testing.assert_allclose(found.scores[b][kept], expected[b]["scores"].numpy(), atol=1e-4)
        np.testing.assert_allclose(found.boxes[b][kept], expected[b]["boxes"].numpy(), atol=2e-2)
        np.testing.assert_array_equal(found.labels[b][kept], expected[b]["labels"].numpy() - 1)


def test_losses_when_every_anchor_and_region_is_sampled(pair, batch):
    theirs, ours, variables = pair
    theirs.train()
    expected = theirs(*as_torch(batch))
    terms = jax.jit(lambda v, b: ours.apply(v, b, method="loss", rngs={"sample": jax.random.key(0)}))(
        variables, batch
    )
    names = {
        "rpn_objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "roi_class": "loss_classifier",
        "roi_box": "loss_box_reg",
    }
    for mine, their in names.items():
        np.testing.assert_allclose(terms[mine].value(), expected[their].item(), rtol=1e-3, err_msg=mine)


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_resnet_features_and_running_statistics(name):
    torch.manual_seed(0)
    body = getattr(torchvision.models, name)(weights=None)
    for module in body.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    variables = backbone_variables(body)
    x = np.random.default_rng(0).normal(size=(2, 65, 97, 3)).astype(np.float32)
    tensor = torch.from_numpy(x.transpose(0, 3, 1, 2))

    def theirs():
        y = body.maxpool(torch.relu(body.bn1(body.conv1(tensor))))
        found = []
        for s in range(1, 5):
            y = getattr(body, f"layer{s}")(y)
            found.append(y.permute(0, 2, 3, 1).detach().numpy())
        return found

    model = resnet(name)
    body.eval()
    for mine, their in zip(jax.jit(model.apply)(variables, x).values(), theirs(), strict=True):
        assert np.abs(mine - their).max() / np.abs(their).max() < 1e-4
    body.train()
    maps, updated = jax.jit(lambda v, x: model.apply(v, x, True, mutable=["batch_stats"]))(variables, x)
    for mine, their in zip(maps.values(), theirs(), strict=True):
        assert np.abs(mine - their).max() / np.abs(their).max() < 1e-3
    expected = backbone_variables(body)["batch_stats"]
    for mine, their in zip(jax.tree.leaves(updated["batch_stats"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, their, rtol=2e-3, atol=2e-4)
