"""What every operation asks of its arrays first: a dtype wide enough to compute in, and lengths that agree.

Integers wrap and halves overflow in sums and products that float32 holds: the area of a box of 600 pixels is
more than the largest float16. So coordinates, areas and weights are computed in float32 at least, and in
float64 where one of the arrays is float64. Whole numbers are exact up to 2^24.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num


def compute_dtype(*arrays: Any) -> np.dtype:
    """The dtype in which arrays are computed with.

    Args:
        arrays: of any numeric or boolean dtype.

    Returns:
        float64 where one of them is (and `jax_enable_x64` is on), else float32.
    """
    return np.dtype(jnp.result_type(jnp.float32, *(jnp.result_type(array) for array in arrays)))


def promoted(*arrays: Num[Array | np.ndarray, "..."]) -> tuple[Array, ...]:
    """Arrays in the one dtype in which they are computed with.

    Args:
        arrays: of any numeric dtypes.

    Returns:
        The same numbers in `compute_dtype(*arrays)`.
    """
    dtype = compute_dtype(*arrays)
    return tuple(jnp.asarray(array).astype(dtype) for array in arrays)


def rounded(values: Num[Array, "*shape"], dtype: Any) -> Num[Array, "*shape"]:
    """Values in the dtype that they are to have.

    Args:
        values: as they were computed.
        dtype: of the result.

    Returns:
        The nearest numbers of that dtype; halves go to the even one where it is an integer's.
    """
    if jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(values.dtype, jnp.floating):
        values = jnp.round(values)
    return values.astype(dtype)


def check_lengths(**arrays: Array | np.ndarray | None) -> None:
    """Makes sure that arrays have one row for each of the same things.

    Args:
        arrays: by the name that the caller knows them by; None is left out.

    Raises:
        ValueError: their first axes differ in length. It is raised while tracing.
    """
    shapes = {name: tuple(array.shape) for name, array in arrays.items() if array is not None}
    if len({shape[:1] for shape in shapes.values()}) > 1:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"a row each is expected, but the shapes are {told}: the first axes must be equal")
