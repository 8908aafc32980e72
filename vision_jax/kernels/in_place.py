"""How kernels that read and write windows of an atlas are run on CPUs and on other devices.

- XLA compiles the gradient of a gather, a scatter, to a slow loop on the CPU; a loop that adds windows in
  place takes a tenth of its time. On other devices the scatter is the form that runs in parallel.
- Such a loop, once batched, would scatter; so under `vmap` the CPU takes one image after the other, whose
  features its caches hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Num


def by_image(on_cpu: Callable[..., Any], elsewhere: Callable[..., Any], *arrays: Array) -> Any:
    """Calls the kernel for the device, on the CPU image by image under `vmap`."""
    return lax.platform_dependent(*arrays, cpu=sequential_vmap(on_cpu), default=elsewhere)


def read_part(
    array: Num[Array, "*shape"], corner: Sequence[Any], shape: Sequence[int]
) -> Num[Array, "*part"]:
    """A part of an array; the corner is never negative, at which JAX need not look."""
    return lax.dynamic_slice(array, [jnp.int32(i) for i in corner], shape, allow_negative_indices=False)


def write_part(
    array: Num[Array, "*shape"], part: Num[Array, "*part"], corner: Sequence[Any]
) -> Num[Array, "*shape"]:
    """The array with a part changed, likewise."""
    corner = [jnp.int32(i) for i in corner]
    return lax.dynamic_update_slice(array, part, corner, allow_negative_indices=False)
