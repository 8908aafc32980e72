"""Mask R-CNN's step on eight devices is the step on one: sampling, masks, batch statistics, accumulation."""

import jax
import numpy as np
import pytest

from tests.batches import instances
from vision_jax.backbones.resnet import ResNet
from vision_jax.layers import FPN
from vision_jax.models.detection.two_stage import RPN, MLPHead, SingleLevel
from vision_jax.models.instance import FCNMaskHead, MaskRCNN
from vision_jax.training.parallel import shard
from vision_jax.training.state import initial_variables

pytestmark = pytest.mark.slow


def detector(norm, blocks, neck, sizes) -> MaskRCNN:
    return MaskRCNN(
        ResNet(blocks, bottleneck=False, norm=norm, width=8),
        3,
        neck=neck,
        rpn=RPN(sizes=sizes, anchors_per_image=64),
        train_proposals=(60, 40),
        rois_per_image=16,
        head=MLPHead(32),
        mask_head=FCNMaskHead(1, 16),
        mask_chunk=4,
    )


def test_the_update_of_eight_devices_is_that_of_one(stepped, same_update):
    model, everything = detector("batch", (1, 1, 1, 1), FPN(16, "group"), (8, 16, 32, 64, 128)), instances(8)
    variables = initial_variables(model, jax.random.key(0), everything)
    one = stepped(model, variables, everything, devices=1)
    eight = stepped(model, variables, everything, devices=8)
    same_update(eight, one)

    # The device axis does not change what is sampled: ids decide, so moving images around changes nothing.
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    shuffled = jax.tree.map(lambda leaf: leaf[order], everything)
    other, _ = eight.run(eight.before, shard(shuffled, 8), jax.random.key(1))
    for a, b in zip(jax.tree.leaves(other.params), jax.tree.leaves(eight.after.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)

    state = eight.before
    for i in range(10):
        state, _ = eight.run(state, shard(everything, 8), jax.random.key(i))
        # Many steps in flight can lock up more virtual devices than there are cores.
        jax.block_until_ready(state)
    for leaf in jax.tree.leaves(state):
        shards = [np.asarray(part.data) for part in leaf.addressable_shards]
        assert len(shards) == 8
        for part in shards[1:]:
            np.testing.assert_array_equal(part, shards[0])


def test_four_microbatches_on_each_of_eight_devices_are_one_batch(stepped, same_update):
    model, everything = detector("group", (1, 1, 1), SingleLevel("c4"), ((8, 16, 32, 64),)), instances(32)
    variables = initial_variables(model, jax.random.key(0), everything)
    one = stepped(model, variables, everything, devices=1)
    many = stepped(model, variables, everything, devices=8, accumulate=4)
    assert one.metrics.terms.keys() == many.metrics.terms.keys() >= {"mask", "roi_box"}
    same_update(many, one)
