"""Transposed convolutions: sizes of layers, worked numbers, and the convolution that one is transpose of."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers import ConvTranspose
from vision_jax.layers.conv import conv2d
from vision_jax.layers.conv_transpose import ConvTranspose2x2, bilinear_init, conv_transpose2d


def arrays(taps, channels=(3, 4)):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 4, channels[0])), jnp.float32)
    return x, jnp.asarray(rng.normal(size=(*taps, channels[1], channels[0])) / channels[0], jnp.float32)


def test_a_transposed_convolution_writes_its_kernel_at_every_cell():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    kernel = rng.normal(size=(4, 2, 2, 5)).astype(np.float32)
    variables = {"params": {"kernel": kernel, "bias": np.arange(5, dtype=np.float32)}}
    expected = np.zeros((2, 6, 4, 5)) + np.arange(5)
    for n, i, j in np.ndindex(2, 3, 2):
        expected[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += np.einsum("c,cyxo->yxo", x[n, i, j], kernel)
    np.testing.assert_allclose(ConvTranspose2x2(5).apply(variables, jnp.asarray(x)), expected, atol=1e-5)


def test_it_is_the_transpose_of_the_convolution_with_its_kernel():
    large, kernel = arrays((3, 3), (6, 4))

    @jax.jit
    def transposed(large, kernel):
        kernel = kernel.swapaxes(2, 3)
        small, to_inputs = jax.vjp(lambda x: conv2d(x, kernel, 2, 1), large)
        back, more = conv_transpose2d(small, kernel, 2, 1), conv_transpose2d(small, kernel, 2, 1, 1)
        return back, more, to_inputs(small)[0]

    back, more, expected = map(np.asarray, transposed(large, kernel))
    assert back.shape == (2, 5, 3, 6)  # three rows come of five or of six, two columns of three or of four
    chex.assert_trees_all_close(back, expected[:, :, :3], atol=1e-5)
    chex.assert_trees_all_close(more[:, :5], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride"),
    [(1, 1), (3, 1), (1, 2), (2, 2), (3, 2), (4, 2), (7, 2), (2, 3), (5, 3), (4, 4), (7, 4)],
)
def test_without_padding_given_the_map_becomes_stride_times_as_large(size, stride):
    layer = ConvTranspose(3, size, stride)
    x = jax.ShapeDtypeStruct((2, 5, 4, 6), jnp.float32)
    y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert y.shape == (2, 5 * stride, 4 * stride, 3)
    assert variables["params"]["kernel"].shape == (size, size, 3, 6)


def test_the_bias_and_the_padding_given():
    x, kernel = np.ones((1, 2, 2, 3), np.float32), np.ones((2, 2, 4, 3), np.float32)
    bias = np.arange(4, dtype=np.float32)
    bare = ConvTranspose(4, 2, 2, padding=1, output_padding=1, bias=False)
    biased, padded = jax.jit(
        lambda x, kernel, bias: (
            ConvTranspose(4, 2, 2).apply({"params": {"kernel": kernel, "bias": bias}}, x),
            bare.apply({"params": {"kernel": kernel}}, x),
        )
    )(x, kernel, bias)
    chex.assert_trees_all_close(biased, np.broadcast_to(3 + bias, (1, 4, 4, 4)))
    chex.assert_trees_all_close(padded, np.full((1, 3, 3, 4), 3, np.float32))
    assert set(jax.eval_shape(bare.init, jax.random.key(0), x)["params"]) == {"kernel"}


@pytest.mark.parametrize(
    ("size", "stride"),
    [(5, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((4, 2), (16, 8)))],
)
def test_a_bilinear_kernel_interpolates(size, stride):
    x, _ = arrays((1, 1))
    layer = ConvTranspose(3, size, stride, bias=False, kernel_init=bilinear_init(stride))

    @jax.jit
    def found_and_expected(x):
        y, _ = layer.init_with_output(jax.random.key(0), x)
        return y, jax.image.resize(x, y.shape, "bilinear")

    y, expected = map(np.asarray, found_and_expected(x))
    inside = slice(stride, -stride)
    chex.assert_trees_all_close(y[:, inside, inside], expected[:, inside, inside], atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4, 2, 3), (4, 3, 2, 2)])
def test_what_cannot_interpolate_is_refused(shape):
    with pytest.raises(ValueError, match="interpolate"):
        bilinear_init(2)(jax.random.key(0), shape)


def test_an_output_padding_of_a_stride_is_refused():
    x, kernel = arrays((3, 3))
    with pytest.raises(ValueError, match="output_padding"):
        conv_transpose2d(x, kernel, 2, 1, 2)


def test_inputs_are_cast_to_the_kernel():
    x, kernel = arrays((4, 4), (16, 16))
    layer = ConvTranspose(16, bias=False)

    def value(kernel, dtype):
        y = layer.apply({"params": {"kernel": kernel.astype(dtype)}}, x)
        assert y.dtype == dtype
        return jnp.sum(jnp.sin(y.astype(jnp.float32)))

    full, half = map(
        np.asarray,
        jax.jit(lambda kernel: [jax.grad(value)(kernel, dtype) for dtype in (jnp.float32, jnp.bfloat16)])(
            kernel
        ),
    )
    assert np.linalg.norm(full - half) <= 2e-2 * np.linalg.norm(full)
