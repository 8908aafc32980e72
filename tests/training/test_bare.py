"""Training without a run folder: as many steps as asked, bit-identical results, and it learns."""

import dataclasses
from collections import deque

import jax
import numpy as np
import pytest

from tests.training.tiny_training import DEFAULTS, TinyNet, TinyTask, make_batch
from vision_jax.training.bare import bare_training

pytestmark = pytest.mark.slow

CONFIG = dataclasses.replace(DEFAULTS, steps=30)


def steps(seed=0, config=CONFIG):
    return bare_training(TinyNet(3), config, TinyTask().open(None).train(8, seed, 0), seed)


def test_bare_training_learns():
    learned = [jax.device_get(variables) for variables in steps()]
    assert len(learned) == 31
    batch = make_batch(np.arange(100, 160))
    wanted = np.asarray(batch.labels) >= 0
    answers = np.asarray(TinyNet(3).apply(learned[-1], batch, method="predict").labels)
    assert (answers == batch.labels)[wanted].mean() > 0.9


def test_bare_training_of_one_seed_repeats_to_the_bit():
    short = dataclasses.replace(CONFIG, steps=3)
    one, two, other = (deque(steps(seed, short), maxlen=1).pop() for seed in (0, 0, 1))
    for a, b, c in zip(*map(jax.tree.leaves, (one, two, other)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes() != np.asarray(c).tobytes()
