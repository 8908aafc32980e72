"""Spatial transformers (Jaderberg, Simonyan, Zisserman and Kavukcuoglu 2015, "Spatial transformer networks").

A localization network looks at an image or a feature map and says how to warp it; the warped map goes on.
What is learned of the pose comes from the task's own loss alone. A family of transforms says what the numbers
of a pose mean; they begin at the identity, a `Window` in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.layers import Dense
from vision_jax.models.protocols import FeatureNetwork
from vision_jax.ops.sampling import (
    Padding,
    affine_grid,
    attention_grid,
    projective_grid,
    regular_points,
    rotation_grid,
    sample_bilinear,
    thin_plate_spline_grid,
)


@runtime_checkable
class Transform(Protocol):
    """A family of transforms; any class with these methods is one."""

    def identity(self) -> Float[np.ndarray, " n"]:
        """The parameters to begin with, those of the map that changes nothing; n is how many there are."""
        ...

    def grid(
        self, theta: Float[Array, " n"], size: tuple[int, int], align_corners: bool
    ) -> Float[Array, "h w 2"]:
        """The normalized point of the input that each pixel of an output of that size reads."""
        ...


@dataclass(frozen=True)
class Attention:
    """A crop: isotropic scale and translation, 3 numbers (equation 2)."""

    def identity(self) -> Float[np.ndarray, " n"]:
        """Scale 1, translation (0, 0)."""
        return np.array([1, 0, 0], np.float32)

    def grid(
        self, theta: Float[Array, " n"], size: tuple[int, int], align_corners: bool
    ) -> Float[Array, "h w 2"]:
        """Scale and translation (s, tx, ty) -> points read."""
        return attention_grid(theta, size, align_corners)


@dataclass(frozen=True)
class Window:
    """A crop whose side and middle have bounds: 3 numbers, all 0 in the middle of both.

    Attributes:
        sides: the least and the greatest side, as fractions of the input's.
    """

    sides: tuple[float, float] = (0.0, 1.0)

    def identity(self) -> Float[np.ndarray, " n"]:
        """The middle of the bounds."""
        return np.zeros(3, np.float32)

    def crop(self, theta: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
        """The side as a fraction of the input's, and the normalized (x, y) of the middle, on the input."""
        least, greatest = self.sides
        side = least + (greatest - least) * nn.sigmoid(theta[..., :1])
        return jnp.concatenate([side, jnp.tanh(theta[..., 1:])], axis=-1)

    def grid(
        self, theta: Float[Array, " n"], size: tuple[int, int], align_corners: bool
    ) -> Float[Array, "h w 2"]:
        """Unbounded numbers of side and middle -> points read."""
        return attention_grid(self.crop(theta), size, align_corners)


@dataclass(frozen=True)
class Rotation:
    """A turn about the middle, in radians: 1 number. It can straighten what an affine map would distort."""

    def identity(self) -> Float[np.ndarray, " n"]:
        """No turn."""
        return np.zeros(1, np.float32)

    def grid(
        self, theta: Float[Array, " n"], size: tuple[int, int], align_corners: bool
    ) -> Float[Array, "h w 2"]:
        """An angle in radians -> points read."""
        return rotation_grid(theta[0], size, align_corners)


@dataclass(frozen=True)
class Affine:
    """An affine map: 6 numbers, row by row (equation 1)."""

    def identity(self) -> Float[np.ndarray, " n"]:
        """The rows of [I | 0]."""
        return np.eye(2, 3, dtype=np.float32).reshape(-1)

    def grid(
        self, theta: Float[Array, " n"], size: tuple[int, int], align_corners: bool
    ) -> Float[Array, "h w 2"]:
        """A 2 x 3 matrix, row by row -> points read."""
        return affine_grid(theta.reshape(2, 3), size, align_corners)


@dataclass(frozen=True)
class Projective:
    """A projective map: 8 numbers of a 3 x 3 matrix, row by row, whose last is 1 (section 3.2)."""

    def identity(self) -> Float[np.ndarray, " n"]:
        """The rows of I without its last entry."""
        return np.eye(3, dtype=np.float32).reshape(-1)[:8]

    def grid(
        self, theta: Float[Array, " n"], size: tuple[int, int], align_corners: bool
    ) -> Float[Array, "h w 2"]:
        """A 3 x 3 matrix without its last entry, row by row -> points read."""
        return projective_grid(jnp.append(theta, 1).reshape(3, 3), size, align_corners)


@dataclass(frozen=True)
class ThinPlateSpline:
    """A thin-plate spline: where each of a regular grid of control points goes (section 3.2).

    Attributes:
        per_side: control points along each side of the output, at least 2; the paper has 4.
    """

    per_side: int = 4

    def identity(self) -> Float[np.ndarray, " n"]:
        """The normalized (x, y) of each control point, itself."""
        return regular_points(self.per_side).reshape(-1)

    def grid(
        self, theta: Float[Array, " n"], size: tuple[int, int], align_corners: bool
    ) -> Float[Array, "h w 2"]:
        """The normalized (x, y) that each control point reads -> points read."""
        control = regular_points(self.per_side)
        return thin_plate_spline_grid(theta.reshape(control.shape), control, size, align_corners)


TransformName = Literal["attention", "rotation", "affine", "projective", "tps"]

TRANSFORMS: dict[TransformName, Transform] = {
    "attention": Attention(),
    "rotation": Rotation(),
    "affine": Affine(),
    "projective": Projective(),
    "tps": ThinPlateSpline(4),
}


class SpatialTransformer(nn.Module):
    """Warps maps as its localization network says: one layer of any network.

    One on the output of another is a chain. For several beside each other, which share the localisation
    network and each attend to a location of their own, raise `count`.

    Attributes:
        localisation: (maps, train) -> features, of which a last layer, linear and zero at first, makes the
            parameters' distances from the identity.
        transform: the family.
        output_size: (height, width) of the warped maps; the input's if None.
        count: transforms for each map.
        bound: the farthest that a parameter gets from the identity's, by a tanh; 0 sets no bound.
        padding: what lies outside a map (`vision_jax.ops.sampling`).
        align_corners: whether -1 and 1 are the centres of the outer pixels, not their outer edges.
    """

    localisation: FeatureNetwork
    transform: Transform = Affine()
    output_size: tuple[int, int] | None = None
    count: int = 1
    bound: float = 0.0
    padding: Padding = "zeros"
    align_corners: bool = False

    @nn.compact
    def __call__(
        self, maps: Float[Array, "b h w c"], train: bool = False
    ) -> tuple[Float[Array, "b n hh ww c"], Float[Array, "b n parameters"]]:
        """Warps each map.

        Args:
            maps: images or feature maps.
            train: handed to the localization network.

        Returns:
            The n = `count` warped maps of each map, and the parameters of their transforms.
        """
        identity = self.transform.identity()
        features = self.localisation(maps, train).reshape(len(maps), -1)
        offset = Dense(self.count * len(identity), nn.initializers.zeros, name="pose")(features)
        # Coordinates are float32 whatever the network computes in: bfloat16 tells 256 pixels apart, no more.
        offset = offset.astype(jnp.float32).reshape(len(maps), self.count, -1)
        if self.bound:
            offset = self.bound * jnp.tanh(offset / self.bound)
        theta = offset + jnp.asarray(identity)
        size = self.output_size or (maps.shape[1], maps.shape[2])

        def warped(
            image: Float[Array, "h w c"], theta: Float[Array, " parameters"]
        ) -> Float[Array, "hh ww c"]:
            """One map, by one transform."""
            points = self.transform.grid(theta, size, self.align_corners)
            return sample_bilinear(image, points, self.padding, self.align_corners)

        return jax.vmap(jax.vmap(warped, in_axes=(None, 0)))(maps, theta), theta
