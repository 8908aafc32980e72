"""The ways in which the literature doubles the sides of a feature map, behind one name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vision_jax.layers.conv import Conv
from vision_jax.layers.conv_transpose import ConvTranspose
from vision_jax.ops.convolution import overlap_counts
from vision_jax.ops.pooling import max_pool_with_argmax, max_unpool, unpool_bed_of_nails, unpool_nearest

Upsampling = Literal[
    "nearest", "bilinear", "bed_of_nails", "max_unpooling", "transposed", "averaged", "resize_convolution"
]

# 9 taps of an input's, each shared by 9/4 inputs, are averaged: as much larger than He's for sums.
_averaged = nn.initializers.variance_scaling(2 * (9 / 4) ** 2, "fan_in", "normal", in_axis=-1, out_axis=-2)


class Upsample(nn.Module):
    """Doubles a map's sides.

    Attributes:
        kind: `nearest` repeats each value; `bilinear` interpolates, pixel centers at +0.5; `bed_of_nails`
            writes each value to the top left of its cell; `max_unpooling` to where the encoder's maximum
            was (Badrinarayanan et al. 2017). With parameters: `transposed` is a 4x4 transposed convolution of
            stride 2 (Long et al. 2015); `averaged` a 3x3 one, divided by how many inputs reach a pixel;
            `resize_convolution` repeats each value, and convolves 3x3 (Odena et al. 2016).
    """

    kind: Upsampling

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], argmax: Int[Array, "b h w c"] | None = None
    ) -> Float[Array, "b 2*h 2*w c"]:
        """Upsamples; `max_unpooling` needs the `argmax` that `halved` gave for a map of twice x's size."""
        if self.kind == "transposed":
            return ConvTranspose(x.shape[-1], 4, 2, padding=1, name="transposed")(x)
        if self.kind == "averaged":
            summed = ConvTranspose(x.shape[-1], 3, 2, bias=False, kernel_init=_averaged, name="averaged")(x)
            counts = overlap_counts((x.shape[1], x.shape[2]), 3, 2, padding=1, output_padding=1)
            return summed / jnp.asarray(counts[..., None], summed.dtype)
        if self.kind == "resize_convolution":
            repeated = jax.vmap(partial(unpool_nearest, stride=2))(x)
            return Conv(x.shape[-1], 3, name="convolution")(repeated)
        if self.kind == "bilinear":
            return double_bilinear(x)
        if self.kind == "max_unpooling":
            if argmax is None:
                raise ValueError("max unpooling without the positions of the maxima")
            shape = (2 * x.shape[1], 2 * x.shape[2])
            return jax.vmap(partial(max_unpool, shape=shape))(x, argmax)
        unpool = unpool_nearest if self.kind == "nearest" else unpool_bed_of_nails
        return jax.vmap(partial(unpool, stride=2))(x)


def halved(
    x: Float[Array, "b h w c"],
) -> tuple[Float[Array, "b h//2 w//2 c"], Int[Array, "b h//2 w//2 c"]]:
    """2x2 max pooling of stride 2, and where in the map each maximum lay (`max_pool_with_argmax`).

    Raises:
        ValueError: a side is odd: no doubling would give it back.
    """
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"a map of {x.shape[1]}x{x.shape[2]} cannot be halved")
    return jax.vmap(max_pool_with_argmax)(x)


def double_bilinear(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Interpolates between pixel centers; at the border the last value is repeated.

    Each new value is 3/4 of the nearest old one and 1/4 of the next, along one axis after the other.
    """
    for axis in (1, 2):
        length = x.shape[axis]
        first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, length - 1))
        before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, length - 1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(x, 1, length, axis=axis), last], axis)
        pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * length, *x.shape[axis + 1 :])
    return x


def same_size(x: Float[Array, "b h w c"], like: Sequence[int]) -> Float[Array, "b _h _w c"]:
    """Doubles a map by nearest neighbor and cuts it to a size that is twice its own, or one less.

    Args:
        x: feature maps.
        like: (rows, columns) of the outcome.
    """
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    return x[:, : like[0], : like[1]]
