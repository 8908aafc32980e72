"""Max pooling with its argmax and max unpooling equal torch's, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.ops.pooling import max_pool_with_argmax, max_unpool, unpool_nearest

torch = pytest.importorskip("torch")
functional = pytest.importorskip("torch.nn.functional")
pytestmark = pytest.mark.peers


def to_torch(x):
    return torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy())


def from_torch(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("shape", "size", "stride", "padding"),
    [
        ((8, 6), 2, 2, 0),
        ((9, 7), 2, 2, 0),
        ((9, 8), 3, 2, 1),
        ((9, 8), 3, 3, 1),
        ((7, 7), 3, 1, 1),
        ((9, 5), 4, 2, 2),
        ((9, 8), 2, 3, 0),
    ],
)
@pytest.mark.parametrize("special", [False, True])
def test_max_pooling_and_unpooling_equal_torch(shape, size, stride, padding, special):
    rng = np.random.default_rng(0)
    features = rng.integers(-3, 4, (2, *shape, 5)).astype(np.float32)  # with ties
    if special:
        features[rng.uniform(size=features.shape) < 0.1] = np.nan
        features[rng.uniform(size=features.shape) < 0.3] = -np.inf

    their_features = to_torch(features).requires_grad_()
    pooled, indices = functional.max_pool2d(their_features, size, stride, padding, return_indices=True)
    to_pooled = rng.normal(size=from_torch(pooled).shape).astype(np.float32)
    pooled.backward(to_torch(to_pooled))
    values = to_torch(rng.normal(size=to_pooled.shape).astype(np.float32)).requires_grad_()
    unpooled = functional.max_unpool2d(values, indices, size, stride, padding, shape)
    to_unpooled = rng.normal(size=features.shape).astype(np.float32)
    unpooled.backward(to_torch(to_unpooled))

    @jax.jit
    def ours(features, values):
        pool = jax.vmap(lambda f: max_pool_with_argmax(f, size, stride, padding))
        pooled, to_features, argmax = jax.vjp(pool, features, has_aux=True)
        unpool = jax.vmap(lambda v, a: max_unpool(v, a, shape, size, stride, padding))
        unpooled, to_values = jax.vjp(lambda v: unpool(v, argmax), values)
        return pooled, argmax, to_features(to_pooled)[0], unpooled, to_values(to_unpooled)[0]

    pooled_here, argmax, of_features, unpooled_here, of_values = ours(features, from_torch(values))
    np.testing.assert_array_equal(pooled_here, from_torch(pooled))
    np.testing.assert_array_equal(argmax, from_torch(indices))
    np.testing.assert_allclose(of_features, from_torch(their_features.grad), atol=1e-5)
    np.testing.assert_array_equal(unpooled_here, from_torch(unpooled))
    # torch also gives a gradient to values that a later window has overwritten.
    expected = from_torch(values.grad)
    if size <= stride:
        np.testing.assert_array_equal(of_values, expected)
    else:
        of_values = np.asarray(of_values)
        assert set(np.unique(of_values[of_values != expected])) <= {0.0}
        written = np.count_nonzero(from_torch(unpooled))
        assert np.count_nonzero(of_values) == written


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_nearest_upsampling_equals_torch(stride):
    features = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    ours = jax.vmap(lambda f: unpool_nearest(f, stride))(jnp.asarray(features))
    theirs = functional.interpolate(to_torch(features), scale_factor=stride, mode="nearest")
    np.testing.assert_array_equal(ours, from_torch(theirs))
