"""The plain segmenter: it is a convolution of the image, and only labelled pixels count."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.models.segmentation.plain_fcn import PlainFCN
from vision_jax.types import SegmentationBatch, UserError

MODEL = PlainFCN(num_classes=3, widths=(4, 6, 8))


def make_batch(height: int = 32, width: int = 48, content: tuple[int, int] = (32, 48)) -> SegmentationBatch:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    labels = rng.integers(-1, 3, (2, height, width)).astype(np.int32)
    inside = (np.arange(height)[:, None] < content[0]) & (np.arange(width) < content[1])
    return SegmentationBatch(
        image=jnp.asarray(image * inside[..., None].astype(np.uint8)),
        size=jnp.tile(jnp.array(content, jnp.int32), (2, 1)),
        labels=jnp.asarray(np.where(inside, labels, -1)),
        id=jnp.arange(2, dtype=jnp.int32),
        original_size=jnp.tile(jnp.array(content, jnp.int32), (2, 1)),
        example_valid=jnp.ones(2, bool),
    )


@pytest.fixture(scope="module")
def variables():
    return jax.jit(MODEL.init)(jax.random.key(0), make_batch())


@pytest.fixture(scope="module")
def logits_of(variables):
    apply = jax.jit(lambda batch: MODEL.apply(variables, batch)["logits"])  # type: ignore[index]
    return lambda batch: np.asarray(apply(batch))


def test_raw_outputs_go_down_to_stride_8_and_back(variables):
    outputs = jax.eval_shape(MODEL.apply, variables, make_batch())
    assert {name: value.shape for name, value in outputs.items()} == {
        "encoder/2": (2, 16, 24, 4),
        "encoder/4": (2, 8, 12, 6),
        "encoder/8": (2, 4, 6, 8),
        "decoder/4": (2, 8, 12, 6),
        "decoder/2": (2, 16, 24, 4),
        "logits": (2, 32, 48, 3),
    }


def test_moving_the_image_by_a_stride_moves_the_answer(variables):
    # Wide enough that the middle sees no border: the receptive field reaches about 40 pixels.
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 256, (1, 16, 200, 3), np.uint8)
    size = jnp.array([[16, 192]], jnp.int32)
    one = jnp.ones(1, jnp.int32)
    batches = [
        SegmentationBatch(
            image=jnp.asarray(wide[:, :, shift : shift + 192]),
            size=size,
            labels=jnp.zeros((1, 16, 192), jnp.int32),
            id=one,
            original_size=size,
            example_valid=one > 0,
        )
        for shift in (0, 8)
    ]
    still, moved = (MODEL.apply(variables, batch)["logits"] for batch in batches)  # type: ignore[index]
    assert np.std(still[:, :, 64:128]) > 0
    np.testing.assert_allclose(still[:, :, 72:120], moved[:, :, 64:112], atol=1e-4)


def test_what_lies_in_the_padding_is_not_seen(logits_of):
    batch = make_batch(content=(24, 40))
    littered = batch.replace(image=jnp.where(batch.image == 0, 200, batch.image).at[:, :24, :40].set(
        batch.image[:, :24, :40]
    ))  # fmt: skip
    np.testing.assert_allclose(logits_of(batch), logits_of(littered), atol=1e-6)


def test_the_loss_is_the_cross_entropy_over_labelled_pixels(variables, logits_of):
    batch = make_batch(content=(24, 40)).replace(example_valid=jnp.array([True, False]))
    logits, labels = logits_of(batch).astype(np.float64)[0], np.asarray(batch.labels)[0]
    log_sum = np.log(np.exp(logits).sum(-1))
    each = log_sum - np.take_along_axis(logits, np.maximum(labels, 0)[..., None], -1)[..., 0]
    mean = MODEL.apply(variables, batch, train=False, method="loss")["cross_entropy"]  # type: ignore[index]
    assert mean.weight == (labels >= 0).sum() < 24 * 40
    np.testing.assert_allclose(mean.total, each[labels >= 0].sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("upsampling", "expected"),
    [("nearest", [0, 0, 4, 4, 8, 8]), ("bilinear", [0, 1, 3, 5, 7, 8])],
)
def test_doubling_keeps_pixel_centres(upsampling, expected):
    model = PlainFCN(num_classes=3, upsampling=upsampling)
    row = jnp.array([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1)
    doubled = model.apply({}, row, method="_doubled")
    np.testing.assert_allclose(np.asarray(doubled)[0, :, :, 0], [expected, expected], atol=1e-5)


def test_a_canvas_that_strides_would_cut_is_refused():
    with pytest.raises(UserError, match=r"20x16.*multiples of 8"):
        jax.eval_shape(MODEL.init, jax.random.key(0), make_batch(16, 20, (16, 20)))


def test_it_learns_two_images_by_heart(variables):
    # Stripes 8 pixels wide: labels that a map of stride 8 can express.
    labels = jnp.tile((jnp.arange(48) // 8 % 3).astype(jnp.int32), (2, 32, 1))
    batch = make_batch().replace(
        labels=labels, image=(labels[..., None] * 100).astype(jnp.uint8).repeat(3, -1)
    )
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, stats, moments):
        def loss(params):
            terms, new = MODEL.apply(
                {"params": params, "batch_stats": stats}, batch, method="loss", mutable=["batch_stats"]
            )
            return terms["cross_entropy"].value(), new["batch_stats"]

        (_, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), stats, moments

    params, stats = variables["params"], variables["batch_stats"]
    moments = optimizer.init(params)
    for _ in range(60):
        params, stats, moments = step(params, stats, moments)
    predictions = MODEL.apply({"params": params, "batch_stats": stats}, batch, method="predict")
    assert (predictions.labels == labels).mean() > 0.9  # type: ignore[union-attr]
    chex.assert_trees_all_close(predictions.probabilities.sum(-1), jnp.ones((2, 32, 48)), rtol=1e-5)  # type: ignore[union-attr]
