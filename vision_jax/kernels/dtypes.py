"""What depends on an array's dtype alone."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def lowest(dtype: Any) -> Any:
    """A number that no other of the dtype is below: -inf, or the least integer."""
    if jnp.issubdtype(dtype, jnp.floating):
        return -jnp.inf
    return jnp.iinfo(dtype).min if jnp.issubdtype(dtype, jnp.integer) else False
