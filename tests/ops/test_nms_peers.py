"""NMS keeps what torchvision keeps."""

import jax
import numpy as np
import pytest

from vision_jax.ops import batched_nms

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peers

compiled = jax.jit(batched_nms, static_argnums=4)


@pytest.mark.parametrize("spread", [40, 300, 2000])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9])
def test_kept_boxes_equal_torchvision(spread, threshold):
    random = np.random.default_rng(spread)
    corners = random.uniform(0, spread, (1000, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 60, (1000, 2))], axis=1).astype(np.float32)
    scores = random.permutation(1000).astype(np.float32) / 1000
    groups = random.integers(0, 3, 1000).astype(np.int32)
    their_boxes, their_scores = torch.from_numpy(boxes), torch.from_numpy(scores)

    alone, there = map(np.asarray, compiled(boxes, scores, np.zeros(1000, np.int32), threshold, 1000))
    theirs = torchvision.ops.nms(their_boxes, their_scores, threshold)
    np.testing.assert_array_equal(alone[there], theirs)

    by_group, there = map(np.asarray, compiled(boxes, scores, groups, threshold, 1000))
    theirs = torchvision.ops.batched_nms(their_boxes, their_scores, torch.from_numpy(groups), threshold)
    np.testing.assert_array_equal(by_group[there], theirs)
