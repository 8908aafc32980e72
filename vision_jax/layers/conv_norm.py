"""A convolution, its norm and a ReLU: the brick of Inception networks."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from vision_jax.layers.conv import Conv
from vision_jax.layers.norms import Norm, NormKind


class ConvNorm(nn.Module):
    """A convolution without a bias, a norm, a ReLU.

    Attributes:
        features: output channels.
        size: of the kernel, in pixels; or (rows, columns).
        stride: in pixels.
        padding: zeros on each side; half of the kernel's size if None.
        norm: which.
        epsilon: of the norm.
        activate: whether there is the ReLU.
        width: what `features` are multiplied by, for a narrower network; at least 8 are left.
    """

    features: int
    size: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | None = None
    norm: NormKind = "batch"
    epsilon: float = 1e-3
    activate: bool = True
    width: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], train: bool = False) -> Float[Array, "b hh ww o"]:
        """Feature maps in the parameters' dtype; the size is that of the convolution."""
        features = self.features if self.width == 1 else max(8, round(self.width * self.features))
        conv = Conv(features, self.size, self.stride, bias=False, padding=self.padding, name="conv")
        x = Norm(self.norm, epsilon=self.epsilon, name="norm")(conv(x), train)
        return nn.relu(x) if self.activate else x
