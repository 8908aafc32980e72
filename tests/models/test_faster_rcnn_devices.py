"""Faster R-CNN's step on eight devices is the step on one, sampling and batch statistics included."""

import jax
import numpy as np
import optax

from vision_jax.backbones.resnet import ResNet
from vision_jax.layers import FPN
from vision_jax.models.detection import RPN, FasterRCNN, MLPHead
from vision_jax.training.parallel import data_parallel, replicate, shard
from vision_jax.training.state import TrainState, initial_variables
from vision_jax.training.step import train_step
from vision_jax.types import DetectionBatch

OBJECTS = 6


def batch() -> DetectionBatch:
    """Eight images with 0 to 6 objects: very different numbers of positives on each device."""
    rng = np.random.default_rng(0)
    count = np.array([0, 6, 1, 3, 0, 2, 5, 1])
    corner = rng.uniform(0, 36, (8, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 26, (8, OBJECTS, 2))], -1)
    valid = np.arange(OBJECTS) < count[:, None]
    return DetectionBatch(
        image=rng.integers(0, 255, (8, 64, 64, 3)).astype(np.uint8),
        size=np.full((8, 2), 64, np.int32),
        boxes=boxes.astype(np.float32),
        labels=np.where(valid, rng.integers(0, 3, valid.shape), -1).astype(np.int32),
        valid=valid,
        ignore=np.zeros_like(valid),
        id=np.array([7, 3, 99, 12, 5, 1, 42, 8], np.int32),
        scale=np.ones((8, 2), np.float32),
        original_size=np.full((8, 2), 64, np.int32),
        example_valid=np.ones(8, bool),
    )


def relative(a, b) -> float:
    return float(np.linalg.norm(np.asarray(a) - b) / max(np.linalg.norm(np.asarray(b)), 1e-12))


def test_the_update_of_eight_devices_is_that_of_one():
    model = FasterRCNN(
        ResNet((1, 1, 1, 1), bottleneck=False, norm="batch", width=8),
        3,
        neck=FPN(16, "group"),
        rpn=RPN(sizes=(8, 16, 32, 64, 128), samples=64),
        train_proposals=(60, 40),
        roi_samples=16,
        head=MLPHead(32),
    )
    everything = batch()
    optimizer = optax.sgd(0.01, momentum=0.9)  # after one step its momentum is the update, free of rounding
    variables = initial_variables(model, jax.random.key(0), everything)
    step = train_step(model, optimizer, lambda count: 0.01)
    after = {}
    for devices in (1, 8):
        used = jax.devices()[:devices]
        state = replicate(TrainState.create(variables, optimizer), used)
        run = data_parallel(step, used, donate_argnums=())
        after[devices] = run(state, shard(everything, devices), jax.random.key(1))
        if devices == 8:
            eight, eight_step = state, run
    (one, metrics), (many, many_metrics) = after[1], after[8]
    assert bool(metrics.finite)
    np.testing.assert_allclose(many_metrics.loss, metrics.loss, rtol=1e-5)

    updates = jax.tree_util.tree_leaves_with_path(many.opt_state), jax.tree.leaves(one.opt_state)
    assert len(updates[1]) == len(jax.tree.leaves(one.params))
    for (path, a), b in zip(*updates, strict=True):
        assert np.linalg.norm(b) > 0, path
        assert relative(a, b) <= 1e-4, (path, relative(a, b))
    for a, b in zip(jax.tree.leaves(many.collections), jax.tree.leaves(one.collections), strict=True):
        assert relative(a, b) <= 1e-4

    # The device axis is no place for a different draw: ids decide, so moving images around changes nothing.
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    shuffled = jax.tree.map(lambda leaf: leaf[order], everything)
    other, _ = eight_step(eight, shard(shuffled, 8), jax.random.key(1))
    for a, b in zip(jax.tree.leaves(other.params), jax.tree.leaves(many.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)

    state = eight
    for i in range(10):
        state, _ = eight_step(state, shard(everything, 8), jax.random.key(i))
        # Many steps in flight can lock up more virtual devices than there are cores.
        jax.block_until_ready(state)
    for leaf in jax.tree.leaves(state):
        shards = [np.asarray(part.data) for part in leaf.addressable_shards]
        assert len(shards) == 8
        for part in shards[1:]:
            np.testing.assert_array_equal(part, shards[0])
