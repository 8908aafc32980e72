"""Dropout (Srivastava et al. 2014) whose random numbers belong to examples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def drop(
    x: Float[Array, "b *features"], rate: float, keys: Key[Array, " b"] | None, layer: int = 0
) -> Float[Array, "b *features"]:
    """Sets activations to 0 at random and scales the rest up, so that their mean is the same.

    Args:
        x: activations of each example.
        rate: the probability of a 0.
        keys: one for each example (`fold_ids`): what is dropped does not depend on the devices. None drops
            nothing, as when a network is not trained.
        layer: which of a network's dropouts it is.

    Returns:
        Activations of the same dtype.
    """
    if keys is None or rate == 0:
        return x

    def one(x: Array, key: Array) -> Array:
        kept = jax.random.bernoulli(jax.random.fold_in(key, layer), 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)

    return jax.vmap(one)(x, keys)
