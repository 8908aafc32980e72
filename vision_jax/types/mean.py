"""A weighted mean that is not divided yet, so that devices and microbatches can add theirs first."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

AXIS = "data"  # the device axis of a training step, over which sums and statistics are added


@struct.dataclass
class Mean:
    """A sum and its weight; the mean is their quotient, taken once, over everything.

    Attributes:
        total: float32 scalar, the sum of weighted values.
        weight: float32 scalar, the sum of weights, 0 where nothing counted.
    """

    total: Float[Array, ""]
    weight: Float[Array, ""]

    @classmethod
    def over(cls, values: Float[Array, "*shape"], where: Bool[Array, "*shape"] | None = None) -> Mean:
        """Sums the values that count.

        Args:
            values: any shape.
            where: which values count; all of them if None. Values that do not count may be NaN.

        Returns:
            The sum of `values[where]` and their number.
        """
        if where is None:
            return cls(jnp.sum(values, dtype=jnp.float32), jnp.float32(values.size))
        return cls(jnp.sum(jnp.where(where, values, 0), dtype=jnp.float32), jnp.sum(where, dtype=jnp.float32))

    def value(self) -> Float[Array, ""]:
        """The mean; 0 where the weight is 0."""
        return self.total / jnp.where(self.weight > 0, self.weight, 1)
