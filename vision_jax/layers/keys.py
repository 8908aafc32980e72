"""Randomness that does not depend on which device an example is on."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Int, Key


def fold_ids(key: Key[Array, ""], ids: Int[Array | np.ndarray, " b"]) -> Key[Array, " b"]:
    """A key for each example, that depends on its id and not on its position in a batch.

    Args:
        key: of the step.
        ids: of the examples, integers.
    """
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)
