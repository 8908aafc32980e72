"""`vision-jax models`: the classifiers by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import tyro

from vision_jax.types import UserError


@dataclass(frozen=True)
class ModelsOptions:
    """Lists the classifiers: parameters, multiplications for one image, feature maps and their strides.

    Torchvision's weights fit those that it has too: all but Inception v2, v4 and the Inception-ResNets.

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
    from vision_jax.models.classification.inceptions import INCEPTIONS, inception
    from vision_jax.pretrained.torchvision import ARCHITECTURES

    known = []
    for name, make in ARCHITECTURES.items():
        architecture = make()
        model = architecture.build(options.classes)
        known.append((name, model, architecture.crop, architecture.source))
    for name, (source, side) in INCEPTIONS.items():
        known.append((name, inception(name, options.classes), side, source))
    rows = []
    for name, model, side, source in known:
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        begin = partial(model.init_with_output, method="scores")
        maps, variables = jax.eval_shape(begin, jax.random.key(0), image)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        count = multiplications(partial(model.apply, method="scores"), variables, image)
        levels = [key for key in maps if key[0] == "c" and key[1:].isdigit()]
        strides = ", ".join(f"{key}: {2 ** int(key[1:])}" for key in sorted(levels))
        rows.append([name, f"{parameters:,}", f"{count / 1e9:.2f}", f"{side}x{side}", strides, source])
    heads = ["name", "parameters", "billion multiplications", "at", "feature maps: strides", "source"]
    print(markdown_table(heads, rows))
