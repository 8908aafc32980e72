"""Work on the rows that are used, when how many they are is known only while running."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool


def map_chunks(function: Callable[[Any], Any], inputs: Any, used: Bool[Array, " s"], chunk: int) -> Any:
    """`function(inputs)`, zero where a row is not used; chunks without a used row are not computed.

    Rows that are used are moved together, a chunk of them is computed at a time, and all are moved back.

    Args:
        function: tree of arrays with `chunk` rows -> tree of arrays with `chunk` rows, each row from its own.
        inputs: tree of arrays with S rows.
        used: which rows count.
        chunk: rows at a time, at least 1.
    """
    slots = used.shape[0]
    chunk = max(1, min(chunk, slots))
    order = jnp.argsort(~used, stable=True)

    def cut(array: Array) -> Array:
        array = jnp.pad(array[order], ((0, -slots % chunk), *[(0, 0)] * (array.ndim - 1)))
        return array.reshape(-(-slots // chunk), chunk, *array.shape[1:])

    chunks, taken = jax.tree.map(cut, inputs), cut(used)
    # By shapes alone: without slots there is no first chunk.
    results = jax.eval_shape(
        function, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), chunks)
    )

    def nothing(_: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), results)

    def one(_: None, rows: tuple[Any, Array]) -> tuple[None, Any]:
        return None, lax.cond(rows[1].any(), function, nothing, rows[0])

    _, chunked = lax.scan(one, None, (chunks, taken))
    back = jnp.argsort(order)

    def put_back(array: Array) -> Array:
        array = array.reshape(-(-slots // chunk) * chunk, *array.shape[2:])[back]
        return jnp.where(used.reshape(-1, *[1] * (array.ndim - 1)), array, 0)

    return jax.tree.map(put_back, chunked)
