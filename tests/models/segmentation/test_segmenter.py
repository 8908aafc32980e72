"""What comes before and after a segmenter's network: padding, losses, views; and its step on many devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.segmentation.networks import NETWORKS, K, make_batch
from vision_jax.models.segmentation.full_resolution import FullResolution
from vision_jax.models.segmentation.segmenter import Segmenter, Views, cross_entropy, mirrored
from vision_jax.models.segmentation.unet import UNet
from vision_jax.training.state import initial_variables

MODEL = Segmenter(UNet(K, (4, 6, 8), blocks=1))


@pytest.fixture(scope="module")
def variables():
    return jax.jit(MODEL.init)(jax.random.key(0), make_batch())


@partial(jax.jit, static_argnums=0)
def logits_of(model, variables, batch):
    return model.apply(variables, batch)["logits"]


@partial(jax.jit, static_argnums=0)
def loss_of(model, variables, batch):
    return model.apply(variables, batch, train=False, method="loss")


def predictor(views: Views):
    """Predicts by the small model from these views."""
    return partial(MODEL.clone(views=views).apply, method="predict")


def plain_terms(logits, labels, weights=None):
    """Sum and weight of the cross-entropy, pixel by pixel."""
    total = weight = 0.0
    for row, label in zip(
        logits.reshape(-1, logits.shape[-1]).astype(np.float64), labels.ravel(), strict=True
    ):
        if label >= 0:
            w = 1.0 if weights is None else weights[label]
            total += w * (np.log(np.exp(row).sum()) - row[label])
            weight += w
    return total, weight


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 0.0)])
def test_the_loss_is_the_weighted_cross_entropy_over_labelled_pixels(variables, weights):
    batch = make_batch(content=(24, 40)).replace(example_valid=np.array([True, False]))
    logits = np.asarray(logits_of(MODEL, variables, batch))
    total, weight = plain_terms(logits[0], np.asarray(batch.labels)[0], weights)
    mean = loss_of(MODEL.clone(class_weights=weights), variables, batch)["cross_entropy"]
    np.testing.assert_allclose(mean.weight, weight, rtol=1e-6)
    np.testing.assert_allclose(mean.total, total, rtol=1e-4)


def test_dice_counts_images_with_labels_and_is_scaled(variables):
    batch = make_batch(3)
    void = np.arange(3)[:, None, None] == 1
    batch = batch.replace(labels=np.where(void, -1, batch.labels))
    terms = loss_of(MODEL.clone(dice=0.25), variables, batch)
    assert terms["dice"].weight == 2
    assert 0 < terms["dice"].total < 0.25 * 2
    whole = loss_of(MODEL.clone(dice=1.0), variables, batch)
    np.testing.assert_allclose(terms["dice"].total, whole["dice"].total / 4, rtol=1e-6)


def test_an_image_without_a_label_costs_nothing_and_moves_nothing(variables):
    batch = make_batch()
    void = batch.replace(labels=np.full_like(batch.labels, -1))
    model = MODEL.clone(dice=1.0, class_weights=(1.0, 2.0, 3.0))

    def loss(params):
        terms = model.apply({**variables, "params": params}, void, train=False, method="loss")
        return sum(term.value() for term in terms.values())

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"])
    assert value == 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_auxiliary_scores_are_a_weighted_term_in_training_only():
    model = Segmenter(NETWORKS["fcn_interpolated"](), auxiliary_weight=0.3)
    batch = make_batch()

    @jax.jit
    def both(batch):
        variables = model.init(jax.random.key(0), batch)
        variables["params"]["network"]["score_auxiliary"]["bias"] = jnp.array([2.0, 0.0, -1.0])
        options = {"rngs": {"sample": jax.random.key(0)}, "mutable": ["batch_stats"], "method": "loss"}
        return [model.apply(variables, batch, train=train, **options)[0] for train in (True, False)]

    training, evaluation = both(batch)
    assert evaluation.keys() == {"cross_entropy"}
    logits = np.broadcast_to(np.array([2.0, 0.0, -1.0]), (2, 32, 48, K))
    total, weight = plain_terms(logits, np.asarray(batch.labels))
    np.testing.assert_allclose(training["auxiliary"].total, 0.3 * total, rtol=1e-4)
    assert training["auxiliary"].weight == weight


def test_a_canvas_that_strides_would_cut_is_filled_up_with_zeros(variables):
    batch = make_batch(height=30, width=45)
    assert MODEL.network.multiple == 4
    filled = make_batch(height=32, width=48, content=(30, 45))
    image = np.pad(batch.image, ((0, 0), (0, 2), (0, 3), (0, 0)))
    filled = filled.replace(image=image)
    odd = logits_of(MODEL, variables, batch)
    assert odd.shape == (2, 30, 45, K)
    np.testing.assert_allclose(odd, logits_of(MODEL, variables, filled)[:, :30, :45], atol=1e-5)


def littered_outside(image, height, width) -> np.ndarray:
    """The image with another padding than zeros right of and below its content."""
    content = (np.arange(32)[:, None] < height) & (np.arange(48) < width)
    return np.where(content[..., None], image, 200).astype(np.uint8)


def test_what_lies_in_the_padding_is_not_seen(variables):
    batch = make_batch(content=(24, 40))
    littered = batch.replace(image=littered_outside(batch.image, 24, 40))
    np.testing.assert_allclose(
        logits_of(MODEL, variables, batch), logits_of(MODEL, variables, littered), atol=1e-5
    )


def test_mirroring_turns_the_content_and_leaves_the_padding():
    x = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]], np.float32).reshape(2, 1, 5, 1)
    turned = jax.jit(mirrored)(x, np.array([[1, 3], [1, 5]], np.int32))
    np.testing.assert_array_equal(turned[..., 0], [[[3, 2, 1, 0, 0]], [[8, 7, 6, 5, 4]]])


@pytest.mark.slow
def test_probabilities_of_views_are_averaged(variables):
    batch = make_batch(content=(32, 40))
    mirror, predict = jax.jit(mirrored), jax.jit(predictor(Views()))
    plain = np.asarray(predict(variables, batch).probabilities)
    np.testing.assert_allclose(plain.sum(-1), 1, rtol=1e-5)
    turned = batch.replace(image=mirror(batch.image, batch.size))
    other = mirror(predict(variables, turned).probabilities, batch.size)
    predict = jax.jit(predictor(Views(flip=True)))
    both = jax.device_get(predict(variables, batch))
    np.testing.assert_allclose(both.probabilities, (plain + np.asarray(other)) / 2, atol=1e-6)
    np.testing.assert_array_equal(both.labels, both.probabilities.argmax(-1))
    # So the answer for a mirrored image is the mirrored answer.
    again = predict(variables, turned).probabilities
    np.testing.assert_allclose(mirror(again, batch.size), both.probabilities, atol=1e-6)

    @jax.jit
    def scaled(variables, batch):
        return [
            predictor(views)(variables, batch).probabilities for views in (Views((0.5,)), Views((1.0, 0.5)))
        ]

    half, average = map(np.asarray, scaled(variables, batch))
    assert half.shape == plain.shape
    np.testing.assert_allclose(average, (plain + half) / 2, atol=1e-6)


def test_a_smooth_image_gets_nearly_the_same_answer_at_another_scale():
    """Of a network without padding's effects: one 1x1 layer."""
    model = Segmenter(FullResolution(K, width=8, depth=0))
    ramp = np.tile(np.arange(0, 240, 5, dtype=np.uint8)[None, None, :, None], (1, 32, 1, 3))
    batch = make_batch(1).replace(image=ramp)

    @jax.jit
    def at_both_scales(batch):
        variables = model.init(jax.random.key(0), batch)
        views = [model.clone(views=Views((scale,))) for scale in (1.0, 2.0)]
        return [each.apply(variables, batch, method="predict").probabilities for each in views]

    one, two = at_both_scales(batch)
    np.testing.assert_allclose(one, two, atol=5e-3)


@pytest.mark.parametrize("scales", [(1.5,), pytest.param((0.6, 1.5), marks=pytest.mark.slow)])
def test_no_view_of_an_image_sees_its_padding(variables, scales):
    batch = make_batch(content=(21, 39))
    littered = batch.replace(image=littered_outside(batch.image, 21, 39))
    predict = jax.jit(predictor(Views(scales, flip=True)))
    one, other = (predict(variables, each).probabilities[:, :21, :39] for each in (batch, littered))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("scale", [0.75, *(pytest.param(s, marks=pytest.mark.slow) for s in (0.1, 2.0))])
def test_where_the_image_ends_it_is_not_mixed_with_its_padding(scale):
    """Of a network that sees one pixel, on two canvases."""
    model = Segmenter(FullResolution(K, width=8, depth=0), views=Views((scale,)))
    batch = make_batch(content=(24, 40))
    image, labels = (np.asarray(each)[:, :24, :40] for each in (batch.image, batch.labels))

    @jax.jit
    def on_both_canvases(*batches):
        variables = model.init(jax.random.key(0), batches[0])
        found = (model.apply(variables, batch, method="predict").probabilities for batch in batches)
        return [each[:, :24, :40] for each in found]

    one, other = on_both_canvases(batch, batch.replace(image=image, labels=labels))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_cross_entropy_of_a_perfect_answer_is_nothing():
    logits = 50 * np.eye(K, dtype=np.float32)[np.array([[[0, 1, 1]]])]
    mean = jax.jit(cross_entropy)(logits, np.array([[[0, 1, -1]]], np.int32))
    assert mean.weight == 2
    np.testing.assert_allclose(mean.total, 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_interpolated", "max_unpooling"])
def test_the_update_of_eight_devices_is_that_of_one(name, stepped, same_update):
    # From no void at all to nothing but void on a device.
    batch = make_batch(8)
    fractions = jnp.array([0.0, 0.9, 0.5, 1.0, 0.2, 0.99, 0.7, 0.3])
    random = jax.random.uniform(jax.random.key(0), batch.labels.shape)
    labels = jnp.where(random < fractions[:, None, None], -1, jnp.maximum(batch.labels, 0))
    batch = jax.tree.map(np.asarray, batch.replace(labels=labels))
    model = Segmenter(NETWORKS[name](), class_weights=(1.0, 5.0, 0.2), dice=0.5)
    variables = initial_variables(model, jax.random.key(0), batch)
    # Scores that are not zero: nothing else would move in the first step.
    leaves, tree = jax.tree.flatten(variables["params"])
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    variables = {**variables, "params": jax.tree.unflatten(tree, noisy)}

    one = stepped(model, variables, batch, devices=1)
    eight = stepped(model, variables, batch, devices=8)
    same_update(eight, one)
