"""Tables of layers: a name there, a path here, and how the numbers of one become those of the other.

Kernels are transposed, running statistics go to a collection of their own, and a linear layer over all
locations of a map has its inputs in another order: torch's are channel by channel, ours location by location.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vision_jax.types import UserError

# torch's name, our collection, our name.
_LEAVES = (
    ("weight", "params", "kernel"),
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "batch_stats", "mean"),
    ("running_var", "batch_stats", "variance"),
)


@dataclass(frozen=True)
class Layer:
    """One layer, there and here.

    Attributes:
        theirs: before the dot of "weight".
        ours: the path of its parameters.
        map_size: (rows, columns) of the map whose every location a linear layer sees, if it sees one.
    """

    theirs: str
    ours: str
    map_size: tuple[int, int] | None = None


def pairs(
    layers: Iterable[Layer], ours: Mapping[str, Any]
) -> Iterator[tuple[str, str, tuple[int, int] | None]]:
    """Each tensor that there is here.

    Args:
        layers: the table; layers that are not here are passed over.
        ours: by paths, "params/..." and "batch_stats/...".

    Yields:
        Its name there, its path here, and its layer's `map_size`.
    """
    for layer in layers:
        for theirs, collection, leaf in _LEAVES:
            path = f"{collection}/{layer.ours}/{leaf}"
            if path in ours:
                yield f"{layer.theirs}.{theirs}", path, layer.map_size


def variables_of(layers: Iterable[Layer], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All tensors of the layers as variables, whatever their shapes.

    Args:
        layers: the table; layers that are not there are passed over.
        tensors: by torch's names.
    """
    found = {}
    for layer in layers:
        weight = tensors.get(f"{layer.theirs}.weight")
        is_norm = weight is not None and weight.ndim == 1
        for theirs, collection, leaf in _LEAVES:
            tensor = tensors.get(f"{layer.theirs}.{theirs}")
            if tensor is not None and leaf != ("kernel" if is_norm else "scale"):
                found[f"{collection}/{layer.ours}/{leaf}"] = to_ours(tensor, layer.map_size)
    return unflatten_dict(found, sep="/")


def to_ours(tensor: np.ndarray, map_size: tuple[int, int] | None = None) -> np.ndarray:
    """Torch's weights as ours: [out, in, h, w] -> [h, w, in, out], [out, in] -> [in, out].

    Args:
        tensor: of any dtype, which stays.
        map_size: as in `Layer`.
    """
    if tensor.ndim == 2 and map_size is not None:
        by_channel = tensor.reshape(len(tensor), -1, *map_size)
        return by_channel.transpose(2, 3, 1, 0).reshape(-1, len(tensor))
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def to_theirs(array: np.ndarray, map_size: tuple[int, int] | None = None) -> np.ndarray:
    """Our weights as torch's, the inverse of `to_ours`.

    Args:
        array: of any dtype, which stays.
        map_size: as in `Layer`.
    """
    if array.ndim == 2 and map_size is not None:
        by_location = array.reshape(*map_size, -1, array.shape[1])
        return by_location.transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def their_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that torch has of an array of ours."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def filled(shapes: Any, layers: Sequence[Layer], tensors: Mapping[str, np.ndarray], where: str) -> Any:
    """Variables made of torch's tensors, each of which must be there, fit and be used.

    Args:
        shapes: of the variables.
        layers: the table; layers that are not among the shapes are passed over.
        tensors: by torch's names.
        where: what the tensors are, for messages.

    Returns:
        The variables, float32.

    Raises:
        UserError: a tensor that is missing, left over, or of another shape than the layer's.
    """
    wanted: dict[str, Any] = flatten_dict(shapes, sep="/")
    found: dict[str, np.ndarray] = {}
    used = set()
    for theirs, ours, map_size in pairs(layers, wanted):
        shape = their_shape(wanted[ours].shape)
        if theirs not in tensors:
            raise UserError(f"{where}: {theirs} {shape} is missing")
        if np.shape(tensors[theirs]) != shape:
            raise UserError(f"{where}: {theirs} has the shape {np.shape(tensors[theirs])}, not {shape}")
        used.add(theirs)
        found[ours] = to_ours(np.asarray(tensors[theirs], np.float32), map_size)
    left = [key for key in tensors if key not in used and not key.endswith("num_batches_tracked")]
    if left:
        raise UserError(f"{where}: {left[0]} {np.shape(tensors[left[0]])} belongs to no layer")
    return jax.tree.map(jnp.asarray, unflatten_dict(found, sep="/"))
