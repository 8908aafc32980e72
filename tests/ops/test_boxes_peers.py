"""Boxes and anchors give torchvision's numbers."""

import numpy as np
import pytest

from vision_jax.ops import base_anchors, box_giou, box_iou, decode_boxes, encode_boxes, pyramid_anchors

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers


def random_boxes(random, count):
    corners = random.uniform(-20, 300, (count, 2))
    return np.concatenate([corners, corners + random.uniform(1, 200, (count, 2))], axis=1).astype(np.float32)


@pytest.fixture
def boxes():
    random = np.random.default_rng(0)
    return random_boxes(random, 50), random_boxes(random, 40)


def test_iou_equals_torchvision(boxes):
    a, b = boxes
    theirs = torch.from_numpy(a), torch.from_numpy(b)
    np.testing.assert_allclose(box_iou(a, b), torchvision.ops.box_iou(*theirs), atol=1e-6)
    np.testing.assert_allclose(box_giou(a, b), torchvision.ops.generalized_box_iou(*theirs), atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_encoded_and_decoded_boxes_equal_torchvision(boxes, weights):
    from torchvision.models.detection._utils import BoxCoder

    coder = BoxCoder(weights)
    targets, anchors = boxes[0][:40], boxes[1]
    theirs = coder.encode([torch.from_numpy(targets)], [torch.from_numpy(anchors)])[0]
    np.testing.assert_allclose(encode_boxes(targets, anchors, weights), theirs, rtol=1e-5, atol=1e-5)

    # Three classes; many of the sizes are beyond the cut.
    deltas = (np.random.default_rng(1).normal(0, 4, (40, 3, 4)) * np.array(weights)).astype(np.float32)
    theirs = coder.decode(torch.from_numpy(deltas.reshape(40, 12)), [torch.from_numpy(anchors)])
    ours = decode_boxes(deltas, anchors[:, None], weights)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-2)


def test_anchors_of_a_pyramid():
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    image_size, feature_sizes = (250, 333), [(63, 84), (32, 42), (16, 21), (8, 11), (4, 6)]
    sizes, ratios = ((32,), (64,), (128,), (256,), (512, 700)), (0.5, 1.0, 2.0)
    generator = AnchorGenerator(sizes, (ratios,) * 5)
    for theirs, level_sizes in zip(generator.cell_anchors, sizes, strict=True):
        np.testing.assert_array_equal(base_anchors(level_sizes, ratios), theirs)

    images = ImageList(torch.zeros(1, 3, *image_size), [image_size])
    theirs = generator(images, [torch.zeros(1, 1, *size) for size in feature_sizes])[0]
    ours = pyramid_anchors(image_size, feature_sizes, sizes, ratios)
    np.testing.assert_array_equal(np.concatenate(ours), theirs)
