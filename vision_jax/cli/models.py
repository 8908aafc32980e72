"""`vision-jax models`: the architectures that torchvision's weights are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import tyro

from vision_jax.types import UserError


@dataclass(frozen=True)
class ModelsOptions:
    """Lists the architectures: parameters, multiplications for one image, feature maps and their strides.

    Attributes:
        classes: of the last layer.
    """

    classes: int = 1000


def run(words: Sequence[str]) -> None:
    """Prints a table; nothing is computed, only shapes.

    Args:
        words: after `vision-jax models`.

    Raises:
        UserError: a mistake in the options.
    """
    options = tyro.cli(ModelsOptions, prog="vision-jax models", args=list(words))
    if options.classes < 1:
        raise UserError(f"--classes {options.classes}: give 1 or more")
    import jax
    import jax.numpy as jnp

    from vision_jax.evaluation.tables import markdown_table
    from vision_jax.layers.multiplications import multiplications
    from vision_jax.pretrained.torchvision import ARCHITECTURES

    rows = []
    for name, make in ARCHITECTURES.items():
        architecture = make()
        model, side = architecture.build(options.classes), architecture.crop
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        variables = jax.eval_shape(partial(model.init, method="scores"), jax.random.key(0), image)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        count = multiplications(partial(model.apply, method="scores"), variables, image)
        maps = jax.eval_shape(partial(model.apply, method="scores"), variables, image)
        levels = [key for key in maps if key[0] == "c" and key[1:].isdigit()]
        strides = ", ".join(f"{key}: {2 ** int(key[1:])}" for key in sorted(levels))
        row = [name, f"{parameters:,}", f"{count / 1e9:.2f}", f"{side}x{side}", strides, architecture.source]
        rows.append(row)
    heads = ["name", "parameters", "billion multiplications", "at", "feature maps: strides", "source"]
    print(markdown_table(heads, rows))
