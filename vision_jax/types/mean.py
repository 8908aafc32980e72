"""A weighted mean before its division, so that devices and microbatches can first add theirs."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

AXIS = "data"  # the device axis of a training step, over which sums and statistics are added


@struct.dataclass
class Mean:
    """A sum and its weight; the mean is their quotient, taken once, over the global batch.

    A model may give a term an example at a time, as two arrays [B]: evaluators then see each example's.

    Attributes:
        total: float32 scalar or [B], the sum of weighted values.
        weight: float32 scalar or [B], the sum of weights, 0 where nothing counted.
    """

    total: Float[Array, "*b"]
    weight: Float[Array, "*b"]

    @classmethod
    def over(
        cls,
        values: Float[Array, "..."],
        where: Bool[Array, "..."] | None = None,
        weights: Float[Array, "..."] | None = None,
    ) -> Mean:
        """Sums the values that count.

        Args:
            values: of any shape and floating dtype; summed in float32.
            where: of that shape, which values count; all of them if None. Values that do not count may be
                NaN, and so may their weights.
            weights: of a shape that broadcasts to that of the values, at least 0; all 1 if None.

        Returns:
            The sum of `weights[where] * values[where]`, and that of `weights[where]`.
        """
        if where is not None:
            # Before they are multiplied: a NaN times 0 has no gradient.
            values = jnp.where(where, values, 0)
        if weights is None:
            weight = jnp.float32(values.size) if where is None else jnp.sum(where, dtype=jnp.float32)
            return cls(jnp.sum(values, dtype=jnp.float32), weight)
        weights = jnp.broadcast_to(weights, values.shape).astype(jnp.float32)
        if where is not None:
            weights = jnp.where(where, weights, 0)
        return cls(jnp.sum(weights * values, dtype=jnp.float32), jnp.sum(weights))

    def sum(self) -> Mean:
        """The same over all examples, as two scalars."""
        return Mean(jnp.sum(self.total), jnp.sum(self.weight)) if jnp.ndim(self.total) else self

    def value(self) -> Float[Array, "*b"]:
        """The mean; 0 where the weight is 0."""
        return self.total / jnp.where(self.weight > 0, self.weight, 1)
