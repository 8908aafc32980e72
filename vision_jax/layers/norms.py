"""Normalization by batch, by frozen statistics, by groups of channels.

Each is `x * a + b` with one `a` and `b` for each channel (and image): sums run over positions first and
over channels after, which keeps the passes over the feature map few. Moments, statistics, `a` and `b` are
at least float32 for feature maps of any dtype; the outcome has the map's own.
"""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from vision_jax.types import AXIS

NormKind = Literal["batch", "frozen", "group"]


def axis_is_bound(name: str = AXIS) -> bool:
    """Whether the code being traced runs inside the training step's device axis."""
    try:
        lax.axis_index(name)
    except NameError:
        return False
    return True


class Norm(nn.Module):
    """One of the normalizations detectors use.

    `batch`: Ioffe and Szegedy 2015. Moments over the batch of all devices while training, running
    averages otherwise; the running variance is the unbiased one, as torch keeps it.
    `frozen`: the same formula with statistics that never change, and no gradient to scale and bias.
    `group`: Wu and He 2018. Moments over each image's positions and each group of channels.

    Attributes:
        kind: which.
        groups: for `group`: how many, at most one a channel; fewer where they would not divide evenly.
        momentum: for `batch`: how much of the running statistics is kept each step.
        epsilon: added to the variance.
        scale_init: of the per-channel scale.
    """

    kind: NormKind = "batch"
    groups: int = 32
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b h w c"]:
        """Feature maps, normalized, in their own dtype; `batch` updates its statistics while training."""
        dtype, channels = x.dtype, x.shape[-1]
        exact = jnp.promote_types(dtype, jnp.float32)
        x = x.astype(exact)  # part of the passes below, not one of its own
        scale = self.param("scale", self.scale_init, (channels,)).astype(exact)
        bias = self.param("bias", nn.initializers.zeros, (channels,)).astype(exact)
        if self.kind == "group":
            mean, variance = _group_moments(x, _divisor(channels, self.groups))
        else:
            mean, variance = self._batch_moments(x, train and self.kind == "batch")
        if self.kind == "frozen":
            scale, bias = lax.stop_gradient(scale), lax.stop_gradient(bias)
        a = scale * lax.rsqrt(variance + self.epsilon)
        b = bias - mean * a
        return (x * a[..., None, None, :] + b[..., None, None, :]).astype(dtype)

    def _batch_moments(
        self, x: Float[Array, "b h w c"], train: bool
    ) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Each channel's mean and variance: while training over all devices' batch, else the running ones."""
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_variance = self.variable("batch_stats", "variance", jnp.ones, (channels,))
        if not train:
            return running_mean.value, running_variance.value
        moments = jnp.stack([x.mean((0, 1, 2)), jnp.square(x).mean((0, 1, 2))])
        count = x.size // channels
        if axis_is_bound():
            moments = lax.pmean(moments, AXIS)
            count = count * lax.psum(1, AXIS)
        mean, variance = moments[0], jnp.maximum(moments[1] - jnp.square(moments[0]), 0)
        if not self.is_initializing():
            unbiased = variance * (count / max(count - 1, 1))
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * lax.stop_gradient(mean)
            running_variance.value = keep * running_variance.value + (1 - keep) * lax.stop_gradient(unbiased)
        return mean, variance


def _group_moments(
    x: Float[Array, "b h w c"], groups: int
) -> tuple[Float[Array, "b c"], Float[Array, "b c"]]:
    """Mean and variance of each image's groups of channels, repeated for the group's channels."""

    def over_groups(per_channel: Array) -> Array:
        b, c = per_channel.shape
        grouped = per_channel.reshape(b, groups, c // groups).mean(-1)
        return jnp.repeat(grouped, c // groups, axis=-1)

    mean = over_groups(x.mean((1, 2)))
    square = over_groups(jnp.square(x).mean((1, 2)))
    return mean, jnp.maximum(square - jnp.square(mean), 0)


def _divisor(channels: int, groups: int) -> int:
    """The largest number of groups, at most so many, that divides the channels."""
    return next(g for g in range(min(groups, channels), 0, -1) if channels % g == 0)
