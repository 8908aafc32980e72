"""How much arithmetic a network is, counted where it is defined and not by what a compiler makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from vision_jax.layers.conv import Conv, Dense
from vision_jax.layers.conv_transpose import ConvTranspose, ConvTranspose2x2
from vision_jax.layers.depthwise import DepthwiseConv

_LAYERS = Conv | ConvTranspose | Dense | ConvTranspose2x2 | DepthwiseConv


def multiplications(function: Callable[..., Any], *arguments: Any) -> int:
    """Multiplications with a layer's weights that calling a function takes; nothing is computed.

    One for each output position and weight of a convolution, those at its border included, as the literature
    counts them (and calls them FLOPs). Norms, biases and activations are left out.

    Args:
        function: applies or initializes modules.
        arguments: to it, arrays or their shapes.
    """
    total = 0

    def count(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        nonlocal total
        outcome = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and isinstance(module, _LAYERS):
            positions = args[0] if isinstance(module, ConvTranspose2x2 | ConvTranspose) else outcome
            total += positions.size // positions.shape[-1] * module.variables["params"]["kernel"].size
        return outcome

    with nn.intercept_methods(count):
        jax.eval_shape(function, *arguments)
    return total
