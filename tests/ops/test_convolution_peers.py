"""Transposed convolutions equal torch's conv_transpose2d, in value and in both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.layers.conv import conv2d
from vision_jax.layers.conv_transpose import conv_transpose2d
from vision_jax.ops.convolution import resize_convolution, transposed_convolution

torch = pytest.importorskip("torch")
functional = pytest.importorskip("torch.nn.functional")
pytestmark = pytest.mark.peers


def to_torch(x):
    return torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy()).requires_grad_()


def from_torch(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def check(ours, theirs, x, kernel):
    """Value and gradients of one function of maps and a kernel [kh, kw, ., .] and of torch's."""
    their_x = to_torch(x)
    their_kernel = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).requires_grad_()
    expected = theirs(their_x, their_kernel)
    g = np.random.default_rng(1).normal(size=from_torch(expected).shape).astype(np.float32)
    expected.backward(to_torch(g))

    @jax.jit
    def value_and_gradients(x, kernel, g):
        value, pull = jax.vjp(ours, x, kernel)
        return value, *pull(g)

    value, of_x, of_kernel = value_and_gradients(x, kernel, g)
    np.testing.assert_allclose(value, from_torch(expected), atol=1e-4)
    np.testing.assert_allclose(of_x, from_torch(their_x.grad), atol=1e-4)
    np.testing.assert_allclose(of_kernel, their_kernel.grad.numpy().transpose(2, 3, 1, 0), atol=1e-3)


@pytest.mark.parametrize("taps", [(1, 1), (2, 3), (3, 3), (5, 4)])
@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation"),
    [(1, 0, 0, 1), (2, 1, 1, 1), (2, 0, 0, 2), (3, 1, 2, 1), (1, 1, 1, 2), (2, 2, 2, 3), (4, 0, 3, 1)],
)
def test_a_transposed_convolution_equals_torch(taps, stride, padding, output_padding, dilation):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    kernel = rng.normal(size=(*taps, 4, 3)).astype(np.float32)  # torch's weight is [i, o, kh, kw]
    geometry = stride, padding, output_padding

    def theirs(x, weight):
        return functional.conv_transpose2d(x, weight, None, *geometry, dilation=dilation)

    def ours(x, kernel):
        return jax.vmap(lambda x: transposed_convolution(x, kernel, *geometry, dilation))(x)

    check(ours, theirs, x, kernel)
    if dilation == 1:
        check(lambda x, kernel: conv_transpose2d(x, kernel, *geometry), theirs, x, kernel)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 2), (1, 6, 6), (2, 2, 2), (1, 2, 3)])
@pytest.mark.parametrize("channels", [(3, 4), (20, 24), (96, 16)])
def test_a_dilated_convolution_equals_torch(stride, padding, dilation, channels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 13, 15, channels[0])).astype(np.float32)
    kernel = (rng.normal(size=(3, 3, *channels)) / channels[0]).astype(np.float32)
    check(
        lambda x, kernel: conv2d(x, kernel, stride, padding, dilation),
        lambda x, weight: functional.conv2d(x, weight, None, stride, padding, dilation),
        x,
        kernel,
    )


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_resizing_then_convolving_equals_torch(method):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    check(
        lambda x, kernel: jax.vmap(lambda x: resize_convolution(x, kernel, 3, method))(jnp.asarray(x)),
        lambda x, weight: functional.conv2d(
            functional.interpolate(x, scale_factor=3, mode=method), weight, padding=1
        ),
        x,
        kernel,
    )
