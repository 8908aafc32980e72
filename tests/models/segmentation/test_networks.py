"""Every network that segments: shapes, gradients, what it can learn, and the papers' sizes."""

from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.overfitting import overfit, warmed_up
from tests.models.segmentation.networks import NETWORKS, K, make_batch, striped_batch
from vision_jax.backbones.resnet import ResNet
from vision_jax.backbones.vgg import VGG
from vision_jax.layers.pooling import max_pool_2x2
from vision_jax.layers.upsampling import double_bilinear, halved
from vision_jax.models.segmentation.deconvnet import DeconvNet
from vision_jax.models.segmentation.encoder_decoder import EncoderDecoder
from vision_jax.models.segmentation.fcn import FCN
from vision_jax.models.segmentation.segmenter import Segmenter
from vision_jax.models.segmentation.segnet import BasicVariant, segnet, segnet_basic
from vision_jax.models.segmentation.unet import UNet
from vision_jax.types import UserError


def parameters(network, side: int = 64) -> int:
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_pixel_is_scored(name):
    """On a canvas that no stride divides."""
    model, batch = Segmenter(NETWORKS[name]()), make_batch(height=30, width=45)
    logits = jax.eval_shape(model.init_with_output, jax.random.key(0), batch)[0]["logits"]
    assert logits.shape == (2, 30, 45, K)
    assert logits.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn", "deconvnet", "unet_stem"])
def test_it_overfits_two_images(name):
    model, batch = Segmenter(NETWORKS[name]()), striped_batch()
    variables, _ = overfit(model, batch, warmed_up(2e-2, 60), 60)
    found = jax.jit(partial(model.apply, method="predict"))(variables, batch)
    assert (found.labels == batch.labels).mean() > 0.85  # by chance: a third


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_interpolated", "max_unpooling"])
def test_in_bfloat16_scores_are_float32_and_near(name):
    model = Segmenter(NETWORKS[name]())
    batch = make_batch()
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    rngs = {"sample": jax.random.key(0)}

    @partial(jax.jit, static_argnums=0)
    def scores(dtype):
        params = jax.tree.map(
            lambda x: (x + 0.1 * jax.random.normal(jax.random.key(1), x.shape)).astype(dtype),
            variables["params"],
        )
        outputs, _ = model.apply(
            {**variables, "params": params}, batch, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        return {name: outputs[name] for name in ("logits", "auxiliary") if name in outputs}

    exact = scores(jnp.float32)
    for name, logits in scores(jnp.bfloat16).items():
        assert logits.dtype == jnp.float32
        assert np.abs(logits - exact[name]).mean() < 0.25 * np.abs(exact[name]).mean()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_doubling_by_interpolation_keeps_pixel_centres():
    row = np.array([0, 4, 8], np.float32).reshape(1, 1, 3, 1)
    doubled = np.asarray(jax.jit(double_bilinear)(row))
    np.testing.assert_allclose(doubled[0, :, :, 0], [[0, 1, 3, 5, 7, 8]] * 2)
    x = noise(2, 5, 4, 3)
    ours, wanted = jax.jit(lambda x: (double_bilinear(x), jax.image.resize(x, (2, 10, 8, 3), "bilinear")))(x)
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_what_cannot_be_doubled_back_is_not_halved():
    with pytest.raises(ValueError, match="5x4 cannot be halved"):
        halved(jnp.zeros((1, 5, 4, 2)))


@pytest.mark.parametrize(
    "settings",
    [
        {"upsampling": "max_unpooling", "decoder": "none"},
        {"addition": True},
        {"decoder": "single_channel"},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings):
    network = EncoderDecoder(K, (4, 6), 1, **settings)
    with pytest.raises(ValueError, match=r"without a decoder|of one width"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_the_encoders_maps_are_added_to_what_the_decoder_gives():
    network = EncoderDecoder(K, (4, 4), 1, upsampling="nearest", addition=True, norm="frozen")

    @jax.jit
    def outputs(x):
        variables = network.init(jax.random.key(1), x)
        variables["params"]["decoder1_conv1"]["conv"]["kernel"] *= 0
        return network.apply(variables, x)

    maps = outputs(noise(1, 8, 8, 3))
    np.testing.assert_array_equal(maps["decoder/1"], maps["encoder/1"])


def test_fcns_on_vgg_score_what_poolings_give():
    network = FCN(K, VGG((1, 1), (4, 6), pooled=True), ("c2", "c1"), deepest=4)

    @jax.jit
    def outputs(x):
        variables = network.init(jax.random.key(1), x)
        unpooled = VGG((1, 1), (4, 6)).apply({"params": variables["params"]["backbone"]}, x)
        return network.apply(variables, x), unpooled, max_pool_2x2(unpooled["c0"])

    maps, unpooled, pooled = outputs(noise(1, 8, 8, 3))
    np.testing.assert_array_equal(maps["c1"], pooled)
    np.testing.assert_array_equal(maps["c2"], unpooled["c2"])
    assert maps["score/c1"].shape == (1, 4, 4, K)


def test_two_skips_of_one_stride_need_no_upsampling():
    backbone = ResNet((1, 1, 1, 1), False, width=4, output_stride=8)
    network = FCN(K, backbone, ("c5", "c4", "c2"), deepest=8)
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    outputs, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), image)
    assert outputs["logits"].shape == (1, 16, 16, K)
    assert "upsample_c4" not in variables["params"]
    assert variables["params"]["upsample_c2"]["kernel"].shape == (4, 4, K, K)


def test_unpooled_values_lie_where_the_maxima_did():
    """With a decoder that passes on: one stage, identity kernels, as on paper."""
    network = EncoderDecoder(1, (1,), 1, size=1, upsampling="max_unpooling", decoder_relu=False)

    @jax.jit
    def outputs(x):
        variables = network.init(jax.random.key(0), x)
        params = jax.tree.map(jnp.ones_like, variables["params"])
        for layer in (params["encoder1"]["conv1"], params["decoder1_conv1"]):
            layer["norm"]["bias"] = jnp.zeros(1)
        params["encoder1"]["conv1"]["conv"]["kernel"] /= 3
        params["score"]["bias"] = jnp.zeros(1)
        return network.apply({**variables, "params": params}, x)["logits"][0, ..., 0]

    image = np.array([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]], np.float32)
    logits = outputs(np.tile(image[None, ..., None], (1, 1, 1, 3)))
    expected = [[0, 0, 6, 0], [0, 5, 0, 0], [0, 0, 0, 0], [7, 0, 0, 8]]
    np.testing.assert_allclose(logits, expected, rtol=1e-4)


def test_skips_can_be_added_one_after_the_other():
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    network = NETWORKS["fcn"]()
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    for used, names in ((1, {"score/c3"}), (2, {"score/c3", "score/c2"}), (None, None)):
        outputs = jax.eval_shape(network.clone(used=used).apply, variables, image)
        scored = {name for name in outputs if name.startswith("score/")}
        assert scored == (names or {"score/c3", "score/c2", "score/c1"})


def test_an_fcn_begins_as_bilinear_interpolation_of_its_scores():
    network = FCN(1, NETWORKS["fcn"]().backbone, ("c3",), deepest=8)

    @jax.jit
    def scored(image):
        variables = network.init(jax.random.key(0), image)
        score = variables["params"]["score_c3"]
        score["kernel"] = jax.random.normal(jax.random.key(1), score["kernel"].shape)
        outputs = network.apply(variables, image)
        return outputs["logits"], jax.image.resize(outputs["score/c3"], (1, 48, 48, 1), "bilinear")

    # Transposed convolutions fade out at the border, where there is no neighbour to interpolate with.
    logits, wanted = (each[:, 4:-4, 4:-4] for each in map(np.asarray, scored(noise(1, 48, 48, 3))))
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(logits, wanted, atol=1e-5)


def test_a_map_smaller_than_the_bottleneck_is_refused():
    network = DeconvNet(K, (4, 4, 4), (1, 1, 1), neck=7, neck_width=4)
    with pytest.raises(UserError, match=r"6x4 locations.*56 pixels"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 48, 3)))


@pytest.mark.slow
def test_sizes_are_the_papers():
    """SegNet's table 1, millions of parameters, but for norms, biases and the classifier: a few percent."""
    millions = {variant: parameters(segnet_basic(11, variant)) / 1e6 for variant in get_args(BasicVariant)}
    assert millions["segnet_basic"] == pytest.approx(1.425, rel=0.01)
    assert millions["encoder_addition"] == pytest.approx(1.425, rel=0.01)
    assert millions["single_channel_decoder"] == pytest.approx(0.625, rel=0.01)
    assert millions["bilinear"] == pytest.approx(0.625, rel=0.03)
    assert millions["fcn_basic"] == pytest.approx(0.65, rel=0.03)
    assert millions["fcn_basic_no_addition"] == pytest.approx(0.65, rel=0.06)
    # 8x8 kernels give a twentieth more than the paper counts.
    assert millions["fcn_basic_no_dim_reduction"] == pytest.approx(1.625, rel=0.06)
    assert millions["fcn_basic_no_addition_no_dim_reduction"] == pytest.approx(1.625, rel=0.06)
    assert parameters(segnet(11)) / 1e6 == pytest.approx(29.45, rel=0.01)
    assert parameters(UNet(2)) / 1e6 == pytest.approx(31.03, rel=0.01)
    # VGG's 138 millions less its last layer, mirrored: table 2.
    assert parameters(DeconvNet(21), 224) / 1e6 == pytest.approx(251.8, rel=0.01)
