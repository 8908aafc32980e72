"""Convolutions for CPUs beside the definition: XLA's values, and its gradients of that."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests.pairs import pairwise
from vision_jax.kernels import conv
from vision_jax.layers.conv import conv2d, plain_conv2d

pytestmark = pytest.mark.kernels


def check_against_the_definition(shape, features, size, padding, stride, atol=1e-4, dilation=1):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    taps = size if isinstance(size, tuple) else (size, size)
    kernel = jnp.asarray(rng.normal(size=(*taps, shape[-1], features)), jnp.float32) / shape[-1]
    padding = padding if isinstance(padding, tuple) else (padding, padding)

    def reference(x, kernel):
        return plain_conv2d(x, kernel, stride, padding, dilation)

    expected, to_inputs = jax.vjp(reference, x, kernel)
    g = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    actual, ours_to_inputs = jax.vjp(lambda x, k: conv2d(x, k, stride, padding, dilation), x, kernel)
    chex.assert_trees_all_close(actual, expected, atol=1e-4)
    chex.assert_trees_all_close(ours_to_inputs(g), to_inputs(g), atol=atol, rtol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "stride", "channels"), pairwise([(1, 0), (3, 1), (3, 0), (5, 0), (5, 1)], [1, 2], [8, 96])
)
def test_value_and_both_gradients_are_those_of_the_definition(kernel, stride, channels):
    check_against_the_definition((2, 9, 7, channels), channels, *kernel, stride)


@pytest.mark.parametrize(
    ("kernel", "stride", "channels"),
    pairwise([((1, 7), (0, 3)), ((3, 1), (1, 0)), ((3, 3), (0, 1))], [1, 2], [8, 96]),
)
def test_kernels_and_borders_need_not_be_square(kernel, stride, channels):
    check_against_the_definition((2, 9, 11, channels), channels, *kernel, stride)


@pytest.mark.parametrize(
    ("kernel", "stride", "channels"),
    pairwise([(3, 1), (7, 0)], [1, 2], [(2, 16), (24, 20), (20, 24), (16, 2)]),
)
def test_a_batch_too_large_for_caches_gives_the_same(kernel, stride, channels):
    check_against_the_definition((6, 64, 120, channels[0]), channels[1], *kernel, stride, atol=5e-3)


@pytest.mark.parametrize(
    ("size", "padding", "stride", "dilation", "channels"),
    [
        (3, 1, 1, 1, (16, 20)),
        (3, 1, 1, 1, (20, 16)),
        (3, 0, 2, 1, (16, 20)),
        (3, 0, 1, 2, (20, 16)),
        ((1, 5), (0, 2), 1, 1, (20, 16)),
        ((1, 5), (0, 2), 2, 2, (16, 20)),
        (5, 2, 1, 1, (16, 20)),
        (5, 5, 1, 1, (20, 16)),
        ((5, 2), (0, 1), 1, 2, (20, 16)),
    ],
)
@pytest.mark.parametrize("part", [500, 3000])
def test_images_too_large_for_caches_give_the_same(
    size, padding, stride, dilation, part, channels, monkeypatch
):
    monkeypatch.setattr(conv, "_CACHE", part)
    shape = (2, 11, 10, channels[0])
    check_against_the_definition(shape, channels[1], size, padding, stride, dilation=dilation)


@pytest.mark.parametrize(
    ("size", "padding", "dilation"),
    [(3, 2, 2), (3, 7, 7), (3, 0, 2), (5, 1, 2), (1, 0, 3), ((1, 3), (0, 3), 3), ((4, 2), (2, 1), 2)],
)
@pytest.mark.parametrize(("stride", "channels"), [(1, (64, 64)), (1, (96, 16)), (1, (16, 24)), (2, (8, 8))])
def test_a_dilated_convolution_equals_the_definition(size, padding, dilation, stride, channels):
    check_against_the_definition(
        (2, 10, 11, channels[0]), channels[1], size, padding, stride, dilation=dilation
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [1, 2])
def test_a_large_batch_of_dilated_kernels(stride, padding):
    for channels in ((20, 24), (24, 20)):
        shape = (4, 64, 90, channels[0])
        check_against_the_definition(shape, channels[1], 3, padding, stride, atol=5e-3, dilation=2)


@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (1, 1), (2, 2), (4, 5), (0, 2)])
@pytest.mark.parametrize(("stride", "channels"), [(1, (3, 17)), (1, (18, 16)), (2, (2, 2))])
def test_gradients_equal_finite_differences(padding, dilation, stride, channels):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(1, 6, 5, channels[0])))
        kernel = jnp.asarray(rng.normal(size=(3, 3, *channels)))
        function = jax.jit(lambda x, kernel: conv2d(x, kernel, stride, padding, dilation))
        check_grads(function, (x, kernel), order=1, modes=("rev",), eps=1e-5, atol=1e-7, rtol=1e-7)
