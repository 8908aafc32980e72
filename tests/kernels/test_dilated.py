"""Dilated convolutions by what lies inside, beside the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.kernels import dilated

pytestmark = pytest.mark.kernels


def convolved(x, kernel, padding, dilation):
    """The definition, tap by tap on a padded map."""
    x = np.pad(x, ((0, 0), *((pad, pad) for pad in padding), (0, 0)))
    rows, columns = kernel.shape[:2]
    height, width = x.shape[1] - dilation * (rows - 1), x.shape[2] - dilation * (columns - 1)
    return sum(
        x[:, i * dilation : i * dilation + height, j * dilation : j * dilation + width] @ kernel[i, j]
        for i, j in np.ndindex(rows, columns)
    )


@pytest.mark.parametrize(
    ("taps", "padding", "dilation"),
    [
        ((3, 3), (2, 2), 2),
        ((3, 3), (5, 5), 5),
        ((3, 3), (9, 9), 9),  # only the middle tap meets the map
        ((2, 5), (4, 6), 3),
        ((3, 1), (7, 0), 4),
        ((3, 3), (1, 0), 2),
    ],
)
@pytest.mark.parametrize("channels", [(2, 3), (3, 2)])
def test_value_and_gradient_are_those_of_the_definition(taps, padding, dilation, channels):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 8, channels[0])), rng.normal(size=(*taps, *channels))
    expected = convolved(x, kernel, padding, dilation)
    g = rng.normal(size=expected.shape)
    with jax.enable_x64(True):
        actual = dilated.convolve(jnp.asarray(x), jnp.asarray(kernel), padding, dilation)
        to_kernel = dilated.kernel_gradient(jnp.asarray(x), jnp.asarray(g), taps, padding, dilation)
    np.testing.assert_allclose(actual, expected, atol=1e-12)
    # By the gradient's definition: the inner product with g is linear in the kernel.
    for i, j in np.ndindex(taps):
        one = np.zeros_like(kernel)
        one[i, j] = 1
        met = g * convolved(x, one, padding, dilation)
        by_feature = np.asarray(to_kernel)[i, j].sum(0)
        np.testing.assert_allclose(by_feature, met.sum((0, 1, 2)), atol=1e-10)
    other = rng.normal(size=kernel.shape)
    assert np.sum(np.asarray(to_kernel) * other) == pytest.approx(
        np.sum(g * convolved(x, other, padding, dilation)), abs=1e-9
    )


def test_it_is_taken_where_most_is_padding():
    x, kernel = jnp.zeros((1, 20, 20, 32)), jnp.zeros((3, 3, 32, 32))
    assert dilated.is_faster(x, kernel, (12, 12), 12)
    assert not dilated.is_faster(x, kernel, (2, 2), 2)
    assert not dilated.is_faster(x, kernel, (0, 0), 6)
    assert not dilated.is_faster(x[..., :2], kernel[:, :, :2], (12, 12), 12)
    assert not dilated.is_faster(x, kernel.astype(jnp.bfloat16), (12, 12), 12)
