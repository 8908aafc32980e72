"""Work on the rows that are used, when how many they are is known only while running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from vision_jax.kernels.chunks import map_chunks
from vision_jax.ops.arguments import check_lengths


def map_used(
    function: Callable[[Any], Any], inputs: Any, used: Bool[Array | np.ndarray, " s"], chunk: int
) -> Any:
    """Applies a function to rows that are used, a chunk of rows at a time, and not to empty chunks.

    Shapes are static, so a step sets aside slots for as many regions as there may be; a chunk of them costs
    nothing where none is taken. The values are those of `where(used, function(inputs), 0)`, row by row.

    Args:
        function: tree of arrays with `chunk` rows -> tree of arrays with `chunk` rows, each row from its own.
        inputs: tree of arrays with S rows.
        used: which rows count.
        chunk: rows at a time, at least 1.

    Returns:
        The function's results with S rows, zero where a row is not used. Differentiable as the function is.

    Raises:
        ValueError: an array of the inputs has not S rows, or a chunk has none.
    """
    if chunk < 1:
        raise ValueError(f"a chunk of {chunk} rows holds nothing: give at least 1")
    inputs, used = jax.tree.map(jnp.asarray, inputs), jnp.asarray(used).astype(bool)
    for array in jax.tree.leaves(inputs):
        check_lengths(inputs=array, used=used)
    return map_chunks(function, inputs, used, chunk)
