"""VGG networks (Simonyan and Zisserman 2015, table 1: A, B, D and E)."""

from __future__ import annotations

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.layers.conv import Conv
from vision_jax.layers.norms import Norm, NormKind
from vision_jax.layers.pooling import max_pool_2x2

VGGName = Literal["vgg11", "vgg13", "vgg16", "vgg19"]

STAGES: dict[VGGName, tuple[int, ...]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """A VGG network's convolutions; images have at least 2 pixels a side for each pooling, 32 for five.

    Attributes:
        stages: convolutions of each stage.
        widths: channels of each stage.
        norm: after each convolution; the paper has none.
        size: of the kernels, in pixels.
        pooled: whether maps are those after the poolings.
    """

    stages: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    norm: NormKind | None = None
    size: int = 3
    pooled: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Normalized images -> `c0` to `c4`, each stage's last map, of strides 1 to 16, and `c5`, pooled; or
        `c1` to `c5`, all pooled."""
        maps = {}
        for s, (count, width) in enumerate(zip(self.stages, self.widths, strict=True)):
            for i in range(count):
                x = Conv(width, self.size, name=f"stage{s + 1}_conv{i + 1}")(x)
                if self.norm is not None:
                    x = Norm(self.norm, name=f"stage{s + 1}_norm{i + 1}")(x, train)
                x = nn.relu(x)
            if not self.pooled:
                maps[f"c{s}"] = x
            x = max_pool_2x2(x)
            maps[f"c{s + 1}"] = x  # until the next stage's last map replaces it
        return maps


def vgg(name: VGGName, norm: NormKind | None = None, pooled: bool = False) -> VGG:
    """The VGG networks of the paper by their usual names.

    Args:
        name: with the number of its layers that have weights.
        norm: after each convolution; the paper has none.
        pooled: whether maps are those after the poolings.
    """
    return VGG(STAGES[name], norm=norm, pooled=pooled)
