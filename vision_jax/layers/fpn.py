"""Feature pyramid network (Lin et al. 2017, section 3): deep maps added, level by level, to sharp ones."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.layers.checked import CheckedModule
from vision_jax.layers.conv import Conv, fpn_uniform
from vision_jax.layers.norms import Norm, NormKind
from vision_jax.layers.upsampling import same_size
from vision_jax.types import Count


class FPN(CheckedModule):
    """Feature maps of strides 4 to 32 -> a pyramid of equal depth, one coarser level added on top.

    Attributes:
        features: channels of every level.
        norm: after each convolution; None for none, as in the paper.
    """

    features: Count = 256
    norm: NormKind | None = None

    @nn.compact
    def __call__(
        self, maps: Mapping[str, Float[Array, "b _h _w _c"]], train: bool = False
    ) -> dict[str, Float[Array, "b _h _w c"]]:
        """Builds the pyramid.

        Args:
            maps: `c2`, `c3`, ..., each half as large as the one before (rounded up).

        Returns:
            `p2`, `p3`, ... of the same sizes, and one level more: every second position of the last
            (the coarse level that Lin et al. give their RPN).
        """

        def block(x: Array, size: int, name: str) -> Array:
            x = Conv(self.features, size, bias=self.norm is None, kernel_init=fpn_uniform, name=name)(x)
            return x if self.norm is None else Norm(self.norm, name=f"{name}_norm")(x, train)

        levels = sorted(int(name[1:]) for name in maps)
        pyramid = {}
        above = None
        for level in reversed(levels):
            merged = block(maps[f"c{level}"], 1, f"lateral{level}")
            if above is not None:
                merged = merged + same_size(above, merged.shape[1:3])
            above = merged
            pyramid[f"p{level}"] = block(merged, 3, f"output{level}")
        top = pyramid[f"p{levels[-1]}"]
        pyramid[f"p{levels[-1] + 1}"] = top[:, ::2, ::2]
        return dict(sorted(pyramid.items()))
