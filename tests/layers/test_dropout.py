"""Dropout belongs to examples: what one loses does not depend on who else is in the batch."""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.layers.dropout import drop
from vision_jax.layers.keys import fold_ids


def test_dropout_keeps_the_mean_and_samples_by_id():
    keys = fold_ids(jax.random.key(0), np.arange(6))
    x = jnp.ones((6, 4000))
    dropped, of_two, of_another_layer = jax.jit(
        lambda x, keys: (drop(x, 0.25, keys), drop(x[2:4], 0.25, keys[2:4]), drop(x, 0.25, keys, layer=1))
    )(x, keys)
    dropped = np.asarray(dropped)
    assert set(np.unique(dropped)) == {0, np.float32(1 / 0.75)}
    np.testing.assert_allclose(dropped.mean(1), 1, atol=0.05)
    np.testing.assert_array_equal(of_two, dropped[2:4])
    assert (np.asarray(of_another_layer) != dropped).any(1).all()
    assert drop(x, 0.25, None) is x
    assert drop(x, 0.0, keys) is x
