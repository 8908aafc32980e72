"""What systems ask of their parts: backbones, necks, heads and networks.

Any Flax module whose methods have these signatures is one; nothing is derived from them. A part that a system
holds as a field is a submodule of that name, whatever the field's type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Float, Key

Maps = dict[str, Float[Array, "b _h _w _c"]]

P = TypeVar("P")


@runtime_checkable
class Part(Protocol):
    """What every Flax module has."""

    def clone(self: P, **changes: Any) -> P:
        """A module by itself with other settings."""
        ...

    def unbind(self) -> tuple[Any, Any]:
        """A module by itself and the variables of this one, inside a system that is being applied."""
        ...


@runtime_checkable
class Backbone(Part, Protocol):
    """Images -> feature maps by name."""

    def __call__(self, x: Float[Array, "b h w 3"], /, train: bool = False) -> Maps:
        """Maps named by log2 of their strides: `c2` has stride 4, `c5` has stride 32.

        Args:
            x: normalized images.
            train: whether batch norms use this batch's statistics.
        """
        ...


@runtime_checkable
class Neck(Part, Protocol):
    """A backbone's maps -> those that proposals and regions come from."""

    def __call__(self, maps: Mapping[str, Float[Array, "b _h _w _c"]], /, train: bool = False) -> Maps:
        """Maps named by a letter and log2 of their strides, finest first: `p2`, ..., `p6` of a pyramid."""
        ...


@runtime_checkable
class RegionHead(Part, Protocol):
    """Pooled regions -> features of each."""

    def __call__(self, pooled: Float[Array, "n h w c"], /, train: bool = False) -> Float[Array, "n *_hwf"]:
        """Features [n, f] or [n, hh, ww, f]; the regions of all images are one batch."""
        ...


@runtime_checkable
class MaskHead(Part, Protocol):
    """Features of regions -> mask logits; its only variables are parameters."""

    def __call__(self, x: Float[Array, "n h w c"], /, channels: int) -> Float[Array, "n m m {channels}"]:
        """Logits of `channels` masks for each region."""
        ...

    def size(self, pooled: int, /) -> int:
        """m, rows and columns of a mask, from h, those of a region's features."""
        ...


@runtime_checkable
class ImageHead(Part, Protocol):
    """A feature map -> features of the whole image."""

    def __call__(
        self, x: Float[Array, "b h w c"], /, keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b f"]:
        """Features; `keys` of each image are for dropout, None drops nothing."""
        ...


@runtime_checkable
class AuxiliaryHead(Part, Protocol):
    """A feature map in the middle of a network -> features of the whole image, in training alone."""

    def __call__(
        self, x: Float[Array, "b h w c"], /, keys: Key[Array, " b"] | None = None, train: bool = False
    ) -> Float[Array, "b f"]:
        """Features; `keys` of each image are for dropout, None drops nothing."""
        ...


@runtime_checkable
class PixelHead(Part, Protocol):
    """A feature map -> features at each of its locations."""

    def __call__(
        self, x: Float[Array, "b h w i"], /, train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b h w o"]:
        """Features; `keys` of each image are for dropout, None drops nothing."""
        ...


@runtime_checkable
class SegmentationNetwork(Part, Protocol):
    """Images -> class scores at each pixel."""

    @property
    def multiple(self) -> int:
        """The sides of its images are multiples of this, in pixels."""
        ...

    def __call__(
        self, x: Float[Array, "b h w 3"], /, train: bool = False, keys: Key[Array, " b"] | None = None
    ) -> dict[str, Float[Array, "..."]]:
        """Maps by name.

        Args:
            x: normalized images.
            train: whether batch norms use this batch's statistics.
            keys: of each image, for dropout; None drops nothing.

        Returns:
            Among others `logits` [B, H, W, K] and, where there are any, `auxiliary` [B, H, W, K], the scores
            of a map in the middle.
        """
        ...


@runtime_checkable
class FeatureNetwork(Part, Protocol):
    """Images or feature maps -> features of each, of any shape."""

    def __call__(self, maps: Float[Array, "b h w c"], /, train: bool = False) -> Float[Array, "b ..."]:
        """Features of each image."""
        ...
