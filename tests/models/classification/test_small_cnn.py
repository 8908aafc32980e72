"""The small classifier: what counts in its loss, what sizes it takes, that it overfits."""

from functools import partial

import chex
import jax
import numpy as np
import optax
import pytest

from tests.batches import classification_of
from tests.models.overfitting import overfit
from vision_jax.models.classification.classifier import class_loss
from vision_jax.models.classification.small_cnn import SmallCNN
from vision_jax.types import ClassificationBatch

MODEL = SmallCNN(num_classes=3, widths=(4, 8))


def make_batch(size: int = 8, count: int = 6, seed: int = 0) -> ClassificationBatch:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    return classification_of(image, rng.integers(0, 3, count))


@partial(jax.jit, static_argnames=("train", "method"))
def apply(variables, batch, **options):
    return MODEL.apply(variables, batch, **options)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(MODEL.init)(jax.random.key(0), make_batch())


def test_raw_outputs_have_halving_stages_and_logits(variables):
    outputs = jax.eval_shape(MODEL.apply, variables, make_batch(size=12))
    assert {name: value.shape for name, value in outputs.items()} == {
        "stage/0": (6, 12, 12, 4),
        "stage/1": (6, 6, 6, 8),
        "logits": (6, 3),
    }


def test_the_loss_is_the_cross_entropy_of_the_logits_over_valid_images(variables):
    batch = make_batch()
    logits = np.asarray(apply(variables, batch)["logits"], np.float64)
    log_sum = np.log(np.exp(logits).sum(1))
    each = log_sum - logits[np.arange(6), np.asarray(batch.labels)]
    for valid in (np.ones(6, bool), np.array([1, 0, 1, 1, 0, 0], bool)):
        batch = batch.replace(example_valid=valid)
        mean = apply(variables, batch, train=False, method="loss")["cross_entropy"]
        assert mean.weight == valid.sum()
        np.testing.assert_allclose(mean.total, each[valid].sum(), rtol=1e-5)


def test_smoothed_labels_by_hand():
    """0.2 of each target over 4 classes: 0.85 on its own, 0.05 on each other."""
    logits = np.array([[2.0, 0.0, -1.0, 0.5], [0.0, 1.0, 0.0, 0.0]], np.float32)
    batch = make_batch(count=2).replace(labels=np.array([1, -1], np.int32))
    log = logits[0] - np.log(np.exp(logits[0].astype(np.float64)).sum())
    expected = -(0.85 * log[1] + 0.05 * (log[0] + log[2] + log[3]))
    mean = jax.jit(lambda *given: class_loss(*given, 0.2))(logits, batch)["cross_entropy"]
    np.testing.assert_allclose((mean.total, mean.weight), (expected, 1.0), rtol=1e-6)


def test_filling_may_carry_any_label(variables):
    valid = np.arange(6) < 4
    batch = make_batch().replace(example_valid=valid)
    filled = batch.replace(labels=np.where(valid, batch.labels, -1))
    chex.assert_trees_all_close(
        apply(variables, batch, train=False, method="loss"),
        apply(variables, filled, train=False, method="loss"),
    )


def test_predictions_are_the_most_probable_classes(variables):
    batch = make_batch()
    predictions = jax.device_get(apply(variables, batch, method="predict"))
    logits = np.asarray(apply(variables, batch)["logits"])
    np.testing.assert_allclose(predictions.probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(predictions.labels, logits.argmax(1))
    assert predictions.labels.dtype == np.int32


def test_only_training_moves_the_running_statistics(variables):
    @jax.jit
    def both(variables, batch):
        options = {"method": "loss", "mutable": ["batch_stats"]}
        return [MODEL.apply(variables, batch, train=train, **options)[1] for train in (False, True)]

    kept, moved = jax.device_get(both(variables, make_batch()))
    chex.assert_trees_all_equal(kept["batch_stats"], variables["batch_stats"])
    moved, before = jax.tree.leaves(moved["batch_stats"]), jax.tree.leaves(variables["batch_stats"])
    assert all(np.abs(a - b).max() > 1e-4 for a, b in zip(moved, before, strict=True))


@pytest.mark.slow
def test_it_overfits_six_images(variables):
    batch = make_batch()
    learnt, losses = overfit(MODEL, batch, optax.adam(1e-2), 60, variables)
    assert losses[-1] < 0.1
    predictions = apply(learnt, batch, method="predict")
    np.testing.assert_array_equal(predictions.labels, batch.labels)
