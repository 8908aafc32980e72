"""Running values: a mean or a sum over training steps, such as a baseline's or a counter's.

In training a module adds its device's sums to what it finds; the training step adds them up over devices and
microbatches and moves the value once (`vision_jax.training.running` has the formula). So all of a step reads
the value that the step began with.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vision_jax.types import Mean


class RunningMean(nn.Module):
    """An exponential moving average, over steps, of means over the whole batch.

    Of the baseline of REINFORCE (Williams 1992, section 5; Mnih et al. 2014, equation 2).

    Attributes:
        decay: 0..1, the fraction of the mean that a step keeps.
        shape: of the mean; with axes, each value has its own weight.
        initial: the mean before the first step.
    """

    decay: float = 0.9
    shape: tuple[int, ...] = ()
    initial: float = 0.0

    @nn.compact
    def __call__(self, values: Mean, train: bool = False) -> Float[Array, "..."]:
        """The mean over the steps before, float32 of `shape`.

        Args:
            values: this step's: a sum of `shape` and its weight; without a gradient.
            train: whether this step's values count.
        """
        value = self.variable("running_means", "value", jnp.full, self.shape, self.initial, jnp.float32)
        total = self.variable("running_means", "total", jnp.zeros, self.shape)
        weight = self.variable("running_means", "weight", jnp.zeros, self.shape)
        self.variable("running_means", "decay", jnp.float32, self.decay)
        if train and not self.is_initializing():
            total.value += lax.stop_gradient(jnp.float32(values.total))
            weight.value += lax.stop_gradient(jnp.float32(values.weight))
        return value.value


class RunningSum(nn.Module):
    """A sum over all training steps, such as the number of examples seen.

    Attributes:
        shape: of the sum.
        dtype: of the sum; float32 counts by ones up to 2**24 alone.
    """

    shape: tuple[int, ...] = ()
    dtype: jnp.dtype | type = jnp.int32

    @nn.compact
    def __call__(self, values: ArrayLike, train: bool = False) -> Array:
        """The sum over the steps before, of `shape` and `dtype`.

        Args:
            values: this step's, of `shape`; without a gradient.
            train: whether this step's values count.
        """
        value = self.variable("running_sums", "value", jnp.zeros, self.shape, self.dtype)
        total = self.variable("running_sums", "total", jnp.zeros, self.shape, self.dtype)
        if train and not self.is_initializing():
            total.value += lax.stop_gradient(jnp.asarray(values, self.dtype))
        return value.value
