"""AlexNet (Krizhevsky, Sutskever and Hinton 2012) in the form for one GPU (Krizhevsky 2014, "One weird trick
for parallelizing convolutional neural networks"): 64 to 256 channels, no local response normalization."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.layers.conv import Conv, torch_uniform
from vision_jax.layers.pooling import max_pool


class AlexNet(nn.Module):
    """AlexNet's convolutions; images have at least 63 pixels a side.

    Attributes:
        widths: channels of the five convolutions.
    """

    widths: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c2`, `c3`, `c4` of strides 4, 8, 16, and `c5`, pooled once more."""

        def conv(x: Array, i: int, size: int, stride: int, padding: int) -> Array:
            layer = Conv(
                self.widths[i], size, stride, kernel_init=torch_uniform, padding=padding, name=f"conv{i + 1}"
            )
            return nn.relu(layer(x))

        maps = {"c2": conv(x, 0, 11, 4, 2)}
        maps["c3"] = conv(max_pool(maps["c2"], 3, 2), 1, 5, 1, 2)
        x = max_pool(maps["c3"], 3, 2)
        for i in (2, 3, 4):
            x = conv(x, i, 3, 1, 1)
        maps["c4"] = x
        maps["c5"] = max_pool(x, 3, 2)
        return maps
