"""Training from what another network learned: a file of weights, or a run of ours.

Variables are matched by their paths. Backbones have one path and one spelling in all systems, so that those
of a classifier fit a detector's; what has another shape is resized where that means something, and keeps its
random initial value elsewhere (the last layer of other classes).
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float

from vision_jax.evaluation.tables import markdown_table
from vision_jax.pretrained.names import variables_of
from vision_jax.pretrained.torchvision import ARCHITECTURES, alike, missing_in_head, recognized
from vision_jax.pretrained.weights import read_weights
from vision_jax.training.predict import load_variables
from vision_jax.types import UserError, is_system_name

logger = logging.getLogger("vision_jax")

Flat = dict[str, np.ndarray]
MapSizes = dict[str, tuple[int, int]]

# A ResNet's last stage is the head of a detector that has no stage 4 ("C4", He et al. 2016, appendix A). A
# segmenter's network holds a backbone, and linear layers as convolutions; or its encoder is VGG.
_ELSEWHERE = (
    (r"/head/block", r"/backbone/stage4_block"),
    (r"/network/encoder(\d)/conv(\d)/(conv|norm)/", r"/backbone/stage\1_\3\2/"),
    (r"/network/", r"/"),
    (r"/backbone/", r"/network/backbone/"),
)


def starting_from(
    path: str | os.PathLike[str] | None, parts: tuple[str, ...] = ()
) -> Callable[[Any], Any] | None:
    """What `Experiment.init` takes: a function that replaces random variables by learned ones.

    It logs one table: what was loaded, resized, left at its initial value, not used, and why.

    Args:
        path: a `.pth` or `.safetensors` file of a classifier of torchvision or of its backbone alone, a run
            folder, or what `vision-jax convert` wrote; None for random numbers.
        parts: modules to take, such as `backbone`; all if empty.

    Returns:
        variables -> variables of the same shapes and dtypes; None without a path. It raises a `UserError`
        where nothing could be read or nothing fits.
    """
    if path is None:
        return None

    def start(variables: Any) -> Any:
        source, map_sizes, name = _source(Path(path))
        found, table = matched(variables, source, map_sizes, parts)
        logger.info("starting from %s\n\n%s\n", path, table)
        if found is None:
            where = f" in {', '.join(parts)}" if parts else ""
            what = f" it is of {name}, so give the experiment that network." if name is not None else ""
            raise UserError(f"nothing in {path} fits the model{where}:{what}\n\n{table}")
        return found

    return start


def matched(
    variables: Any, source: Flat, map_sizes: Mapping[str, tuple[int, int]], parts: tuple[str, ...] = ()
) -> tuple[Any, str]:
    """The variables with what there is for them in another network's.

    Args:
        variables: of the model, in its shapes and dtypes.
        source: by path, "params/backbone/...".
        map_sizes: of linear layers that see a whole map: its rows and columns, by path.
        parts: modules to take; all if empty.

    Returns:
        The variables, or None where none was found; and the table.
    """
    flat: dict[str, Any] = flatten_dict(jax.device_get(variables), sep="/")
    rows, used = _Rows(), set()
    outcome = dict(flat)
    for path, old in flat.items():
        theirs = _their_path(path, source)
        if theirs is None:
            anew = "there is none: random" if _part(path) == "classifier" else "there is none"
            rows.add("left", path, old, anew)
            continue
        used.add(theirs)
        if parts and _part(path) not in parts:
            rows.add("left", path, old, "not asked for")
            continue
        elsewhere = "" if _part(theirs) == _part(path) else f"from {_part(theirs)}"
        new = source[theirs]
        if new.shape == old.shape:
            rows.add("loaded", path, old, elsewhere)
        else:
            new, how = resized(new, old.shape, map_sizes.get(theirs))
            rows.add("left" if new is None else "resized", path, old, how)
        if new is not None:
            outcome[path] = np.asarray(new, old.dtype)
    layers = {_layer(path) for path in flat}
    for path in sorted(source.keys() - used):
        why = "the model has no such layer"
        if _layer(path) in layers:
            statistics = path.startswith("batch_stats")
            why = "the model's norms keep no statistics" if statistics else "the model's layer has none"
        rows.add("not used", path, source[path], why)
    anything = rows.has("loaded") or rows.has("resized")
    return (unflatten_dict(outcome, sep="/") if anything else None), rows.table()


def resized(
    array: np.ndarray, shape: tuple[int, ...], map_size: tuple[int, int] | None = None
) -> tuple[np.ndarray | None, str]:
    """Weights of another shape, where there is a meaning to it.

    Taps of a convolution, and the locations of a map that a linear layer sees, are resized bilinearly, scaled
    and shifted so that a constant map gives what it gave; kernels of color images are summed for gray ones.
    A linear layer becomes a convolution, which answers at every location (Long et al. 2015, section 3.1).

    Args:
        array: in our layout.
        shape: wanted.
        map_size: rows and columns of the map that a linear layer sees.

    Returns:
        The array in that shape, or None; and in words what was done, or why nothing was.
    """
    said = f"{_shape(array.shape)} there, {_shape(shape)} here"
    if array.ndim == len(shape) == 4:
        if array.shape[2] == 3 and (*array.shape[:2], 1, array.shape[3]) == shape:
            return array.sum(2, keepdims=True), "summed over colors"
        if array.shape[2:] == shape[2:]:
            return _resized_map(array, shape), said
    if array.ndim == 2 and len(shape) == 4:
        seen = map_size or (1, 1)
        if array.shape == (math.prod(seen) * shape[2], shape[3]):
            return _resized_map(array.reshape(*seen, *shape[2:]), shape), said
    if array.ndim == len(shape) == 2 and map_size is not None and array.shape[1] == shape[1]:
        channels = array.shape[0] // math.prod(map_size)
        side = math.isqrt(shape[0] // channels)
        if channels * side * side == shape[0]:
            maps = array.reshape(*map_size, channels, shape[1])
            return _resized_map(maps, (side, side, channels, shape[1])).reshape(shape), said
    return None, said


def _resized_map(
    array: Float[np.ndarray, "h w c k"], shape: tuple[int, ...]
) -> Float[np.ndarray, "hh ww c k"]:
    """Weights of h x w taps or locations at another size, their sum for each input and output kept."""
    before, after = math.prod(array.shape[:2]), math.prod(shape[:2])
    found = np.asarray(jax.image.resize(array, shape, "bilinear")) * (before / after)
    return found + (array.sum((0, 1)) - found.sum((0, 1))) / after


def _source(path: Path) -> tuple[Flat, MapSizes, str | None]:
    """Variables by path, the map sizes of linear layers, and the architecture where a file is of one."""
    if path.is_dir():
        _check_run(path)
        flat: dict[str, Any] = flatten_dict(load_variables(path, "best"), sep="/")
        return {name: np.asarray(array) for name, array in flat.items()}, {}, None
    tensors = read_weights(path)
    known = recognized(tensors)
    if known is None:
        names = ", ".join(ARCHITECTURES)
        raise UserError(f"{path} is of no classifier that is known here{alike(tensors)}; known: {names}")
    name, tensors = known
    missing = missing_in_head(name, tensors)
    without = f", without {', '.join(missing)}: what is missing is random" if missing else ""
    logger.info("%s is of %s%s", path, name, without)
    layers = ARCHITECTURES[name]().layers
    found: dict[str, Any] = flatten_dict(variables_of(layers, tensors), sep="/")
    named = {f"{layer.theirs}." for layer in layers}
    for key, tensor in tensors.items():  # another classifier than the architecture's: the table says so
        layer, _, leaf = key.rpartition(".")
        if f"{layer}." not in named:
            found[f"params/{layer.replace('.', '/')}/{leaf}"] = np.asarray(tensor)
    sizes = {f"params/{layer.ours}/kernel": layer.map_size for layer in layers if layer.map_size is not None}
    return found, sizes, name


def _check_run(folder: Path) -> None:
    """Raises where a folder is none of a run's, and something in it or above it is what was meant."""
    if (folder / "checkpoints").is_dir():
        return
    files = sorted(p.name for p in folder.iterdir() if p.suffix in (".pth", ".pt", ".safetensors", ".bin"))
    files = [name for name in files if not is_system_name(name)]
    if files:
        raise UserError(f"{folder} is no run folder: give one of its files, {folder / files[0]}")
    run = next((p for p in (folder.parent, folder.parent.parent) if (p / "checkpoints").is_dir()), None)
    if folder.resolve() != folder.parent.resolve() and run is not None and "checkpoints" in folder.parts:
        raise UserError(f"{folder} is inside of a run folder: give {run}")


def _their_path(path: str, source: Flat) -> str | None:
    if path in source:
        return path
    for here, there in _ELSEWHERE:
        found = re.sub(here, there, path)
        if found in source:
            return found
    return None


def _part(path: str) -> str:
    """The outermost module, or the one inside it where that is a segmenter's network."""
    first, *rest = path.split("/")[1:]
    return rest[0] if first == "network" and len(rest) > 1 else first


def _layer(path: str) -> str:
    """A path without its collection and its leaf."""
    return "/".join(path.split("/")[1:-1])


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


@dataclass
class _Rows:
    """What became of variables: those of one module that had one fate share a row."""

    found: dict[tuple[str, str, str], list[tuple[str, int]]] = field(default_factory=dict)

    def add(self, fate: str, path: str, array: np.ndarray, why: str) -> None:
        part = _part(path)
        self.found.setdefault((fate, part, why), []).append((path, array.size))

    def has(self, fate: str) -> bool:
        return any(key[0] == fate for key in self.found)

    def table(self) -> str:
        order = ("loaded", "resized", "left", "not used")
        rows = []
        found = sorted(self.found.items(), key=lambda item: order.index(item[0][0]))
        for (fate, part, why), members in found:
            alone = members[0][0].partition("/")[2].removeprefix("network/")
            name = part if len(members) > 1 else alone
            values = sum(size for _, size in members)
            rows.append([fate, name, str(len(members)), f"{values:,}", why])
        return markdown_table(["outcome", "part", "tensors", "values", "why"], rows)
